package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"

	"gateway.local/kubenode/internal/manifests"
)

// deployedName is a ConfigMap in which the database itself remembers the edition of each manifest file that it holds, so
// that it loses both together. To apply an unchanged file again costs seconds under emulation, and takes back what
// controllers wrote into its objects, such as the authority of a conversion webhook.
const deployedName = "deployed-manifests"

// podsBudget bounds how long manifests that did not change wait for the pods of before.
const podsBudget = time.Minute

func (d *deployer) deployedMaps() dynamic.ResourceInterface {
	return d.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}).Namespace(metav1.NamespaceSystem)
}

// deployedKey is a file's key in the ConfigMap: file names may have characters that keys may not.
func deployedKey(name string) string {
	sum := sha256.Sum256([]byte(name))
	return hex.EncodeToString(sum[:16])
}

// recall reads which edition of each file the cluster has; without an answer all files are applied.
func (d *deployer) recall(ctx context.Context) {
	d.deployed = map[string]string{}
	object, err := d.deployedMaps().Get(ctx, deployedName, metav1.GetOptions{})
	if err != nil {
		if !apierrors.IsNotFound(err) && ctx.Err() == nil {
			logf("cannot read which manifests are deployed, so all are applied: %v", err)
		}
		return
	}
	if data, _, err := unstructured.NestedStringMap(object.Object, "data"); err == nil {
		d.deployed = data
	}
}

// awaitPods lets the pods of before go first where no manifest changed: to look whether all objects are there takes the API
// server seconds that the pods need. A change ends the wait.
func (d *deployer) awaitPods(ctx context.Context, changes <-chan struct{}) {
	if d.after == nil || !d.isUnchanged() {
		return
	}
	select {
	case <-ctx.Done():
	case <-d.after:
	case <-time.After(podsBudget):
	case <-changes:
	}
}

// isUnchanged says whether the database remembers all files as they are, and no other.
func (d *deployer) isUnchanged() bool {
	files, err := manifests.Scan(d.dir, d.disabled)
	if err != nil {
		return false
	}
	here := map[string]bool{}
	for _, f := range files {
		here[f.Name] = true
		if d.deployed[deployedKey(f.Name)] != f.Digest {
			return false
		}
	}
	for name := range d.record {
		if !here[name] && !manifests.Skipped(d.dir, name) {
			return false
		}
	}
	return true
}

// note writes that the cluster has this edition of a file; "" for none, or for one that is being changed. It must come
// before a change and after its end.
func (d *deployer) note(ctx context.Context, name, digest string) error {
	key := deployedKey(name)
	if d.deployed[key] == digest {
		return nil
	}
	var value any
	if digest != "" {
		value = digest
	}
	patch, err := json.Marshal(map[string]any{"data": map[string]any{key: value}})
	if err != nil {
		return err
	}
	_, err = d.deployedMaps().Patch(ctx, deployedName, types.MergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
	if apierrors.IsNotFound(err) {
		_, err = d.deployedMaps().Create(ctx, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "v1", "kind": "ConfigMap",
			"metadata": map[string]any{"name": deployedName, "namespace": metav1.NamespaceSystem},
			"data":     map[string]any{key: digest},
		}}, metav1.CreateOptions{FieldManager: fieldManager})
	}
	if err != nil {
		return err
	}
	d.deployed[key] = digest
	return nil
}

// isDeployed says whether the cluster has this edition of a file and all of its objects.
func (d *deployer) isDeployed(ctx context.Context, name, digest string, refs []manifests.Ref) bool {
	if d.deployed[deployedKey(name)] != digest {
		return false
	}
	for _, ref := range refs {
		if !d.exists(ctx, ref) {
			return false
		}
	}
	return true
}

// exists asks for the object's metadata only.
func (d *deployer) exists(ctx context.Context, ref manifests.Ref) bool {
	mapping, err := d.mapping(ref)
	if err != nil {
		return false
	}
	_, err = d.heads.Resource(mapping.Resource).Namespace(ref.Namespace).Get(ctx, ref.Name, metav1.GetOptions{})
	return err == nil
}
