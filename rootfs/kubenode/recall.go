package main

import (
	"context"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"gateway.local/kubenode/internal/manifests"
	"gateway.local/kubenode/internal/pki"
)

// recall finds out what runs before this one have applied to this very cluster.
func (d *deployer) recall(ctx context.Context) {
	if d.cluster = d.clusterUID(ctx); d.cluster == "" {
		return // a new one
	}
	d.digests = manifests.LoadDigests(d.layout.AppliedDigests(), d.cluster)
	if len(d.digests) > 0 {
		logf("%d manifests are in the cluster; those that did not change are applied again %s after the start", len(d.digests), manifests.HealAfter)
	}
}

// clusterUID names the database: another one has another namespace kube-system. It gives "" where that is not there yet.
func (d *deployer) clusterUID(ctx context.Context) string {
	namespaces := d.client.Resource(schema.GroupVersionResource{Version: "v1", Resource: "namespaces"})
	namespace, err := namespaces.Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	return string(namespace.GetUID())
}

// untilHealed gives the time until an edition is applied that a run before has brought into the cluster.
func (d *deployer) untilHealed(name, digest string) time.Duration {
	return d.digests.UntilHealed(name, digest, time.Since(started))
}

// note remembers which edition of a manifest is whole in the cluster; "" is none.
func (d *deployer) note(ctx context.Context, name, digest string) {
	if d.digests[name] == digest {
		return
	}
	if d.digests[name] = digest; digest == "" {
		delete(d.digests, name)
	}
	if d.cluster == "" {
		d.cluster = d.clusterUID(ctx)
	}
	if d.cluster == "" {
		return // the next start applies all
	}
	data, err := d.digests.Encode(d.cluster)
	if err == nil {
		err = pki.WriteFile(d.layout.AppliedDigests(), data, 0o600)
	}
	if err != nil {
		logf("cannot remember which manifests are in the cluster: %v", err)
	}
}
