// Package charts holds what kubenode adds to k3s's helm controller: helm's own words in the status of a HelmChart
// that failed, and the controller's kinds as objects of auto-deploy. It talks to no cluster.
package charts

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"

	v1 "github.com/k3s-io/helm-controller/pkg/apis/helm.cattle.io/v1"
	"github.com/k3s-io/helm-controller/pkg/crds"
	corev1 "k8s.io/api/core/v1"

	"gateway.local/kubenode/internal/manifests"
)

const (
	// Group is that of HelmChart and HelmChartConfig.
	Group = "helm.cattle.io"
	// ErrorAnnotation on a HelmChart holds what helm said when its last try failed; rootfs/helmjob writes it.
	ErrorAnnotation = "helm.gateway.local/error"
)

// Mentioned says whether any of the files may hold one of the controller's kinds.
func Mentioned(files []manifests.File) bool {
	for _, file := range files {
		if bytes.Contains(file.Data, []byte(Group+"/")) {
			return true
		}
	}
	return false
}

// Kinds are the controller's CustomResourceDefinitions, ready to be applied, and a digest of all their text.
func Kinds() ([]manifests.Object, string, error) {
	definitions, err := crds.List()
	if err != nil {
		return nil, "", err
	}
	var texts []string
	var out []manifests.Object
	for _, definition := range definitions {
		text, err := json.Marshal(definition)
		if err != nil {
			return nil, "", err
		}
		texts = append(texts, string(text))
		fields := map[string]any{}
		if err := json.Unmarshal(text, &fields); err != nil {
			return nil, "", err
		}
		// The API server's own.
		delete(fields, "status")
		delete(fields["metadata"].(map[string]any), "creationTimestamp")
		ref := manifests.Ref{APIVersion: definition.APIVersion, Kind: definition.Kind, Name: definition.Name}
		out = append(out, manifests.Object{Ref: ref, Fields: fields})
	}
	// They come out of a map.
	slices.Sort(texts)
	sum := sha256.Sum256([]byte(strings.Join(texts, "\n")))
	return out, hex.EncodeToString(sum[:]), nil
}

// Explain gives the chart with helm's own words in its status, when the controller only knows that its job failed.
// The controller's object is not changed.
func Explain(chart *v1.HelmChart) *v1.HelmChart {
	words := chart.GetAnnotations()[ErrorAnnotation]
	if words == "" {
		return chart
	}
	explained := chart.DeepCopy()
	for i := range explained.Status.Conditions {
		condition := &explained.Status.Conditions[i]
		if condition.Type == v1.HelmChartFailed && condition.Status == corev1.ConditionTrue {
			condition.Message += ": " + words
		}
	}
	return explained
}
