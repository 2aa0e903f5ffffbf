package main

import (
	"fmt"
	"hash/fnv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// nameHashLabel marks the pods that are the controller's.
const nameHashLabel = "agents.x-k8s.io/sandbox-name-hash"

type object = map[string]any

// owned is the head of an object that goes with its Sandbox.
func owned(sandbox *unstructured.Unstructured, apiVersion, kind, name string, metadata object) *unstructured.Unstructured {
	head := object{}
	for _, key := range []string{"labels", "annotations"} {
		if value, found := metadata[key]; found {
			head[key] = value
		}
	}
	made := &unstructured.Unstructured{Object: object{"apiVersion": apiVersion, "kind": kind, "metadata": head}}
	made.SetName(name)
	made.SetNamespace(sandbox.GetNamespace())
	_ = unstructured.SetNestedSlice(made.Object, []any{object{
		"apiVersion": sandbox.GetAPIVersion(), "kind": "Sandbox",
		"name": sandbox.GetName(), "uid": string(sandbox.GetUID()),
		"controller": true, "blockOwnerDeletion": true,
	}}, "metadata", "ownerReferences")
	return made
}

func templates(sandbox *unstructured.Unstructured) []object {
	list, _, _ := unstructured.NestedSlice(sandbox.Object, "spec", "volumeClaimTemplates")
	var all []object
	for _, one := range list {
		if template, isObject := one.(object); isObject {
			all = append(all, template)
		}
	}
	return all
}

func templateName(template object) string {
	name, _, _ := unstructured.NestedString(template, "metadata", "name")
	return name
}

func claimName(template object, sandbox *unstructured.Unstructured) string {
	return templateName(template) + "-" + sandbox.GetName()
}

func claimsOf(sandbox *unstructured.Unstructured) []*unstructured.Unstructured {
	var claims []*unstructured.Unstructured
	for _, template := range templates(sandbox) {
		metadata, _ := template["metadata"].(object)
		claim := owned(sandbox, "v1", "PersistentVolumeClaim", claimName(template, sandbox), metadata)
		claim.Object["spec"] = template["spec"]
		claims = append(claims, claim)
	}
	return claims
}

// podOf is the Sandbox's pod: its template, with its claims as volumes, and never started again by the kubelet.
func podOf(sandbox *unstructured.Unstructured) *unstructured.Unstructured {
	template, _, _ := unstructured.NestedMap(sandbox.Object, "spec", "podTemplate")
	metadata, _ := template["metadata"].(object)
	pod := owned(sandbox, "v1", "Pod", sandbox.GetName(), metadata)
	labels := pod.GetLabels()
	if labels == nil {
		labels = map[string]string{}
	}
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(sandbox.GetName()))
	labels[nameHashLabel] = fmt.Sprintf("%08x", hash.Sum32())
	pod.SetLabels(labels)
	spec, _ := template["spec"].(object)
	if spec == nil {
		spec = object{}
	}
	if _, found := spec["restartPolicy"]; !found {
		spec["restartPolicy"] = "Never"
	}
	volumes, _ := spec["volumes"].([]any)
	for _, claim := range templates(sandbox) {
		volumes = append(volumes, object{
			"name":                  templateName(claim),
			"persistentVolumeClaim": object{"claimName": claimName(claim, sandbox)},
		})
	}
	spec["volumes"] = volumes
	pod.Object["spec"] = spec
	return pod
}

// readiness is the condition Ready of a Sandbox with this pod. A pod that ended because the guest did (its status is
// Unknown) is one that is waited for; one whose program ended is not.
func readiness(pod *unstructured.Unstructured) (status, reason string) {
	conditions, _, _ := unstructured.NestedSlice(pod.Object, "status", "conditions")
	for _, one := range conditions {
		condition, _ := one.(object)
		if condition["type"] == "Ready" && condition["status"] == "True" {
			return "True", "DependenciesReady"
		}
	}
	phase, _, _ := unstructured.NestedString(pod.Object, "status", "phase")
	containers, _, _ := unstructured.NestedSlice(pod.Object, "status", "containerStatuses")
	for _, one := range containers {
		container, _ := one.(object)
		ended, _, _ := unstructured.NestedString(container, "state", "terminated", "reason")
		if ended == "Completed" || ended == "Error" {
			return "False", "MainProcessExited"
		}
	}
	return "False", "Pod" + phase
}
