package main

import (
	"context"
	"errors"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"
)

func helmCharts(objects ...runtime.Object) dynamic.ResourceInterface {
	kinds := map[schema.GroupVersionResource]string{chartResource: "HelmChartList"}
	return fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds, objects...).Resource(chartResource).Namespace("kube-system")
}

func helmChart() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "helm.cattle.io/v1", "kind": "HelmChart",
		"metadata": map[string]any{"name": "web", "namespace": "kube-system"},
		"status": map[string]any{"conditions": []any{
			map[string]any{"type": "JobCreated", "status": "True"}, map[string]any{"type": "Failed", "status": "False"},
		}},
	}}
}

// failed reads the condition and the annotation.
func failed(t *testing.T, charts dynamic.ResourceInterface) (map[string]any, string) {
	t.Helper()
	chart, err := charts.Get(context.Background(), "web", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	conditions, _, _ := unstructured.NestedSlice(chart.Object, "status", "conditions")
	if len(conditions) != 2 || conditions[0].(map[string]any)["type"] != "JobCreated" {
		t.Fatalf("conditions: %v", conditions)
	}
	return conditions[1].(map[string]any), chart.GetAnnotations()[errorAnnotation]
}

func TestReportWritesHelmsWordsAndTakesThemBack(t *testing.T) {
	charts, ctx, wanted := helmCharts(helmChart()), context.Background(), &job{name: "web", chartNamespace: "kube-system"}
	if err := reportTo(ctx, charts, wanted, errors.New("parse error at (web/templates/a.yaml:3)")); err != nil {
		t.Fatal(err)
	}
	condition, words := failed(t, charts)
	if condition["status"] != "True" || condition["message"] != words || !strings.Contains(words, "a.yaml:3") {
		t.Errorf("after a failure: %v, %q", condition, words)
	}
	if err := reportTo(ctx, charts, wanted, nil); err != nil {
		t.Fatal(err)
	}
	if condition, words = failed(t, charts); condition["status"] != "False" || words != "" {
		t.Errorf("after a success: %v, %q", condition, words)
	}
}

func TestReportTouchesNothingWhenAllIsWellOrTheChartIsGone(t *testing.T) {
	charts, ctx := helmCharts(helmChart()), context.Background()
	if err := reportTo(ctx, charts, &job{name: "web"}, nil); err != nil {
		t.Fatal(err)
	}
	if err := reportTo(ctx, charts, &job{name: "other"}, errors.New("x")); err != nil {
		t.Errorf("a chart that is gone: %v", err)
	}
	if condition, words := failed(t, charts); condition["status"] != "False" || words != "" {
		t.Errorf("got %v, %q", condition, words)
	}
}

func TestShortenKeepsWholeCharacters(t *testing.T) {
	text := shorten(strings.Repeat("ä", messageLimit))
	if len(text) > messageLimit+3 || strings.ContainsRune(text, '�') || !strings.HasSuffix(text, "…") {
		t.Errorf("%d bytes, ends %q", len(text), text[len(text)-8:])
	}
	if shorten("short") != "short" {
		t.Error("a short text was changed")
	}
}
