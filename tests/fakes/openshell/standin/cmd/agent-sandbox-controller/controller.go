package main

import (
	"context"
	"log"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
)

const (
	// settle gathers changes that come together.
	settle = 200 * time.Millisecond
	// resync looks at everything, changed or not.
	resync   = 60 * time.Second
	lookTime = 30 * time.Second
)

var (
	sandboxKind = schema.GroupVersionResource{Group: "agents.x-k8s.io", Version: "v1beta1", Resource: "sandboxes"}
	podKind     = schema.GroupVersionResource{Version: "v1", Resource: "pods"}
	claimKind   = schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumeclaims"}
	eventKind   = schema.GroupVersionResource{Version: "v1", Resource: "events"}
)

type controller struct {
	client dynamic.Interface
}

// announce records that this process leads; its role lacks the right, and like the real one it goes on without.
func (c *controller) announce(ctx context.Context, host string) {
	event := &unstructured.Unstructured{Object: object{
		"apiVersion": "v1", "kind": "Event",
		"metadata": object{"generateName": "leader-", "namespace": systemNamespace},
		"involvedObject": object{
			"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "name": leaseName, "namespace": systemNamespace,
		},
		"reason": "LeaderElection", "message": host + " became leader", "type": "Normal",
	}}
	_, err := c.client.Resource(eventKind).Namespace(systemNamespace).Create(ctx, event, metav1.CreateOptions{})
	if err != nil {
		log.Printf("Server rejected event (will not retry!): %v", err)
	}
}

// run keeps pods and claims in line with the Sandboxes until the context ends.
func (c *controller) run(ctx context.Context) {
	changed := make(chan struct{}, 1)
	go c.watch(ctx, sandboxKind, metav1.ListOptions{}, changed)
	go c.watch(ctx, podKind, metav1.ListOptions{LabelSelector: nameHashLabel}, changed)
	log.Print("Starting workers")
	for ctx.Err() == nil {
		if err := c.reconcileAll(ctx); err != nil && ctx.Err() == nil {
			log.Printf("Reconciler error: %v", err)
		}
		select {
		case <-changed:
			time.Sleep(settle)
			select {
			case <-changed:
			default:
			}
		case <-time.After(resync):
		case <-ctx.Done():
		}
	}
}

// watch reports each change of a kind, again after its connection has ended.
func (c *controller) watch(
	ctx context.Context, kind schema.GroupVersionResource, options metav1.ListOptions, changed chan<- struct{},
) {
	tell := func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	}
	for ctx.Err() == nil {
		options.ResourceVersion = "0"
		watching, err := c.client.Resource(kind).Watch(ctx, options)
		if err != nil {
			time.Sleep(2 * time.Second)
			continue
		}
		for range watching.ResultChan() {
			tell()
		}
	}
}

func (c *controller) reconcileAll(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	all, err := c.client.Resource(sandboxKind).List(ctx, metav1.ListOptions{})
	if err != nil {
		return err
	}
	for _, sandbox := range all.Items {
		if sandbox.GetDeletionTimestamp() != nil {
			continue
		}
		if err := c.reconcile(ctx, &sandbox); err != nil {
			log.Printf("Reconciler error of Sandbox %s/%s: %v", sandbox.GetNamespace(), sandbox.GetName(), err)
		}
	}
	return nil
}

func (c *controller) reconcile(ctx context.Context, sandbox *unstructured.Unstructured) error {
	for _, claim := range claimsOf(sandbox) {
		into := c.client.Resource(claimKind).Namespace(sandbox.GetNamespace())
		if _, err := into.Create(ctx, claim, metav1.CreateOptions{}); err != nil && !apierrors.IsAlreadyExists(err) {
			return err
		}
	}
	pods := c.client.Resource(podKind).Namespace(sandbox.GetNamespace())
	pod, err := pods.Get(ctx, sandbox.GetName(), metav1.GetOptions{})
	switch {
	case err == nil:
		// Also one that has failed: nothing of a pod that is there is changed.
		log.Printf("Found Pod %s/%s", pod.GetNamespace(), pod.GetName())
	case apierrors.IsNotFound(err):
		if pod, err = pods.Create(ctx, podOf(sandbox), metav1.CreateOptions{}); err != nil {
			return err
		}
		log.Printf("Created Pod %s/%s", pod.GetNamespace(), pod.GetName())
	default:
		return err
	}
	return c.report(ctx, sandbox, pod)
}

// report writes the Sandbox's condition when it is another one.
func (c *controller) report(ctx context.Context, sandbox, pod *unstructured.Unstructured) error {
	ready, reason := readiness(pod)
	conditions, _, _ := unstructured.NestedSlice(sandbox.Object, "status", "conditions")
	if len(conditions) == 1 {
		if now, _ := conditions[0].(object); now["status"] == ready && now["reason"] == reason {
			return nil
		}
	}
	sandbox = sandbox.DeepCopy()
	err := unstructured.SetNestedSlice(sandbox.Object, []any{object{
		"type": "Ready", "status": ready, "reason": reason, "message": "",
		"lastTransitionTime": time.Now().UTC().Format(time.RFC3339),
	}}, "status", "conditions")
	if err != nil {
		return err
	}
	into := c.client.Resource(sandboxKind).Namespace(sandbox.GetNamespace())
	_, err = into.UpdateStatus(ctx, sandbox, metav1.UpdateOptions{})
	return err
}
