package main

import (
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func sandbox() *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: object{
		"apiVersion": "agents.x-k8s.io/v1beta1", "kind": "Sandbox",
		"metadata": object{"name": "default--one", "namespace": "openshell", "uid": "u-1"},
		"spec": object{
			"podTemplate": object{
				"metadata": object{"labels": object{"a": "b"}},
				"spec":     object{"containers": []any{object{"name": "agent"}}},
			},
			"volumeClaimTemplates": []any{object{
				"metadata": object{"name": "workspace"}, "spec": object{"accessModes": []any{"ReadWriteOnce"}},
			}},
		},
	}}
}

func TestPodIsTheSandboxsAndNeverRestarted(t *testing.T) {
	pod := podOf(sandbox())
	owner := pod.GetOwnerReferences()[0]
	if owner.Kind != "Sandbox" || owner.UID != "u-1" || !*owner.Controller {
		t.Errorf("owner %+v", owner)
	}
	policy, _, _ := unstructured.NestedString(pod.Object, "spec", "restartPolicy")
	if policy != "Never" || pod.GetLabels()["a"] != "b" || pod.GetLabels()[nameHashLabel] == "" {
		t.Errorf("%s %v", policy, pod.GetLabels())
	}
	volumes, _, _ := unstructured.NestedSlice(pod.Object, "spec", "volumes")
	claim, _, _ := unstructured.NestedString(volumes[0].(object), "persistentVolumeClaim", "claimName")
	if claim != "workspace-default--one" || claimsOf(sandbox())[0].GetName() != claim {
		t.Errorf("claim %q", claim)
	}
}

func TestReadiness(t *testing.T) {
	ended := func(reason string) object {
		return object{"phase": "Failed", "containerStatuses": []any{
			object{"state": object{"terminated": object{"reason": reason}}},
		}}
	}
	for _, one := range []struct {
		status object
		want   string
	}{
		{object{"conditions": []any{object{"type": "Ready", "status": "True"}}}, "True DependenciesReady"},
		{object{"phase": "Pending"}, "False PodPending"},
		{ended("Unknown"), "False PodFailed"},
		{ended("Error"), "False MainProcessExited"},
	} {
		status, reason := readiness(&unstructured.Unstructured{Object: object{"status": one.status}})
		if got := status + " " + reason; got != one.want {
			t.Errorf("%v: %s instead of %s", one.status, got, one.want)
		}
	}
}

func TestConversionGoesThereAndBack(t *testing.T) {
	there := converted(object{
		"apiVersion": "agents.x-k8s.io/v1beta1", "spec": object{"operatingMode": "Suspended"},
	}, "agents.x-k8s.io/v1alpha1")
	if there["spec"].(object)["replicas"] != 0 {
		t.Fatal(there)
	}
	there["spec"].(object)["replicas"] = float64(0)
	back := converted(there, "agents.x-k8s.io/v1beta1")
	if back["spec"].(object)["operatingMode"] != "Suspended" || back["spec"].(object)["replicas"] != nil {
		t.Fatal(back)
	}
}
