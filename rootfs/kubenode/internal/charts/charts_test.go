package charts

import (
	"strings"
	"testing"

	v1 "github.com/k3s-io/helm-controller/pkg/apis/helm.cattle.io/v1"
	corev1 "k8s.io/api/core/v1"

	"gateway.local/kubenode/internal/manifests"
)

func TestKindsAreTheControllersTwo(t *testing.T) {
	kinds, digest, err := Kinds()
	if err != nil {
		t.Fatal(err)
	}
	if _, again, _ := Kinds(); len(digest) != 64 || again != digest {
		t.Errorf("digests %q and %q", digest, again)
	}
	found := map[string]bool{}
	for _, object := range kinds {
		found[object.Name] = true
		spec := object.Fields["spec"].(map[string]any)
		if object.Kind != "CustomResourceDefinition" || spec["group"] != Group || object.Fields["status"] != nil {
			t.Errorf("%s is %s of group %v with status %v", object.Name, object.Kind, spec["group"], object.Fields["status"])
		}
	}
	if len(kinds) != 2 || !found["helmcharts.helm.cattle.io"] || !found["helmchartconfigs.helm.cattle.io"] {
		t.Errorf("kinds: %v", found)
	}
}

func TestMentionedFindsTheGroupInAnyFile(t *testing.T) {
	plain := manifests.File{Name: "a.yaml", Data: []byte("apiVersion: v1\nkind: Namespace\n")}
	chart := manifests.File{Name: "b.yaml", Data: []byte("apiVersion: helm.cattle.io/v1\nkind: HelmChart\n")}
	if Mentioned(nil) || Mentioned([]manifests.File{plain}) || !Mentioned([]manifests.File{plain, chart}) {
		t.Error("Mentioned() is wrong")
	}
}

func TestExplainAddsHelmsWordsOnlyWhereTheJobFailed(t *testing.T) {
	chart := &v1.HelmChart{}
	chart.Annotations = map[string]string{ErrorAnnotation: "parse error at (x/templates/a.yaml:3)"}
	chart.Status.Conditions = []v1.HelmChartCondition{
		{Type: v1.HelmChartJobCreated, Status: corev1.ConditionTrue, Message: "created"},
		{Type: v1.HelmChartFailed, Status: corev1.ConditionTrue, Reason: "Job failed", Message: "gave up"},
	}
	explained := Explain(chart).Status.Conditions
	if explained[0].Message != "created" || explained[1].Message != "gave up: parse error at (x/templates/a.yaml:3)" {
		t.Errorf("conditions: %+v", explained)
	}
	if strings.Contains(chart.Status.Conditions[1].Message, "parse") {
		t.Error("the controller's own object was changed")
	}
	chart.Status.Conditions[1].Status = corev1.ConditionFalse
	if got := Explain(chart).Status.Conditions[1].Message; got != "gave up" {
		t.Errorf("a chart that is well got %q", got)
	}
	chart.Annotations = nil
	if Explain(chart) != chart {
		t.Error("a chart without helm's words was copied")
	}
}
