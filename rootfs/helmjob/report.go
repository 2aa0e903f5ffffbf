package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"unicode/utf8"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
)

const (
	// errorAnnotation on a HelmChart holds helm's words of its last try, and is absent when that went well. The
	// status alone would not do: the controller writes it anew when the job gives up, and the pod with its log goes.
	errorAnnotation = "helm.gateway.local/error"
	// messageLimit in bytes; kubelet keeps 4096 of a container's message.
	messageLimit = 4000
)

var chartResource = schema.GroupVersionResource{Group: "helm.cattle.io", Version: "v1", Resource: "helmcharts"}

// report notes on the HelmChart how the job went.
func report(ctx context.Context, wanted *job, failure error) error {
	config, err := rest.InClusterConfig()
	if err != nil {
		return err
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	return reportTo(ctx, client.Resource(chartResource).Namespace(wanted.chartNamespace), wanted, failure)
}

func reportTo(ctx context.Context, charts dynamic.ResourceInterface, wanted *job, failure error) error {
	chart, err := charts.Get(ctx, wanted.name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil // it went while helm was busy
	}
	if err != nil {
		return err
	}
	_, was := chart.GetAnnotations()[errorAnnotation]
	if failure == nil && !was {
		return nil
	}
	var text any // null removes the annotation
	if failure != nil {
		text = shorten(failure.Error())
	}
	err = patch(ctx, charts, wanted.name, map[string]any{
		"metadata": map[string]any{"annotations": map[string]any{errorAnnotation: text}},
	})
	if err != nil {
		return err
	}
	conditions, _, _ := unstructured.NestedSlice(chart.Object, "status", "conditions")
	return patch(ctx, charts, wanted.name, map[string]any{
		"status": map[string]any{"conditions": withOutcome(conditions, failure)},
	}, "status")
}

// withOutcome sets the condition Failed and keeps the others.
func withOutcome(conditions []any, failure error) []any {
	failed := map[string]any{"type": "Failed", "status": "False"}
	if failure != nil {
		failed = map[string]any{
			"type": "Failed", "status": "True", "reason": "Helm failed", "message": shorten(failure.Error()),
		}
	}
	var kept []any
	for _, entry := range conditions {
		if condition, ok := entry.(map[string]any); ok && condition["type"] != "Failed" {
			kept = append(kept, condition)
		}
	}
	return append(kept, failed)
}

func patch(ctx context.Context, charts dynamic.ResourceInterface, name string, change any, part ...string) error {
	body, err := json.Marshal(change)
	if err != nil {
		return err
	}
	if _, err := charts.Patch(ctx, name, types.MergePatchType, body, metav1.PatchOptions{FieldManager: "helmjob"}, part...); err != nil {
		return fmt.Errorf("patching %s: %w", strings.Join(append([]string{name}, part...), "/"), err)
	}
	return nil
}

// shorten keeps whole characters.
func shorten(text string) string {
	if len(text) <= messageLimit {
		return text
	}
	cut := messageLimit
	for cut > 0 && !utf8.RuneStart(text[cut]) {
		cut--
	}
	return text[:cut] + "…"
}
