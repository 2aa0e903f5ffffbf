package versions

import (
	"os"
	"strings"
	"testing"
)

func TestVersionsAreThoseOfGoMod(t *testing.T) {
	data, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for module, version := range map[string]string{
		"k8s.io/kubernetes": Kubernetes, "github.com/containerd/containerd/v2": Containerd, "github.com/k3s-io/kine": Kine,
		"github.com/k3s-io/helm-controller": Helm, "sigs.k8s.io/kube-network-policies": Policies,
	} {
		if !strings.Contains(string(data), "\t"+module+" "+version+"\n") {
			t.Errorf("go.mod does not require %s %s", module, version)
		}
	}
}
