package main

import (
	"context"
	"fmt"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/kube-network-policies/pkg/networkpolicy"

	"gateway.local/kubenode/internal/args"
	"gateway.local/kubenode/internal/layout"
	"gateway.local/kubenode/internal/netpol"
)

const (
	netpolName = "network-policies"
	// netpolSettle gathers changes that come together, such as those of a Deployment's pods.
	netpolSettle = 50 * time.Millisecond
	// netpolTries to load the rules, a pause that grows by netpolRetry between them.
	netpolTries = 5
	netpolRetry = 200 * time.Millisecond
)

// closePods keeps pods from starting unprotected: until the policies are known, no connection of theirs is let through.
func (c *cluster) closePods() error {
	ctx, cancel := context.WithTimeout(c.parts, time.Minute)
	defer cancel()
	if c.settings.DisablePolicy {
		return netpol.Remove(ctx) // an earlier run in this boot may have had it
	}
	if err := netpol.Close(ctx, c.settings.ClusterCIDR); err != nil {
		return fmt.Errorf("cannot enforce network policies (--disable-network-policy turns them off): %w", err)
	}
	return nil
}

// prepareNetworkPolicies returns the function that enforces NetworkPolicies. What it put into the kernel stays after it,
// so that pods which go on without this program keep their policies: those with a policy get no new connection then.
func prepareNetworkPolicies(l layout.Layout, s *args.Server) (part, error) {
	return func(ctx context.Context) error {
		config, err := clientcmd.BuildConfigFromFlags("", l.Cred("controller.kubeconfig"))
		if err != nil {
			return err
		}
		config.UserAgent = netpolName
		config.ContentType = "application/vnd.kubernetes.protobuf"
		client, err := kubernetes.NewForConfig(config)
		if err != nil {
			return err
		}
		e := &enforcer{
			cidr: s.ClusterCIDR, shared: informers.NewSharedInformerFactory(client, 0), changed: make(chan struct{}, 1),
		}
		return e.run(ctx, client)
	}, nil
}

// enforcer keeps the rules of package netpol up to date and runs the engine that judges what they queue.
type enforcer struct {
	cidr    string
	shared  informers.SharedInformerFactory
	changed chan struct{}
}

// policyPods are the pods as the engine is to see them.
type policyPods struct {
	coreinformers.PodInformer
	informer cache.SharedIndexInformer
}

func (p policyPods) Informer() cache.SharedIndexInformer { return p.informer }

func (e *enforcer) run(ctx context.Context, client kubernetes.Interface) error {
	policies, namespaces := e.shared.Networking().V1().NetworkPolicies(), e.shared.Core().V1().Namespaces()
	pods := policyPods{PodInformer: e.shared.Core().V1().Pods()}
	var err error
	if pods.informer, err = netpol.ForEngine(pods.PodInformer.Informer(), netpol.Results); err != nil {
		return err
	}
	for _, informer := range []cache.SharedIndexInformer{policies.Informer(), namespaces.Informer()} {
		if err := informer.SetTransform(netpol.TrimMeta); err != nil {
			return err
		}
	}
	engine, err := networkpolicy.NewController(client, policies, namespaces, pods, nil, nil, nil, nil, networkpolicy.Config{
		QueueID: netpol.Queue,
		// It makes rules for the pods of this node once the API server knows their addresses. Ours hold earlier and
		// longer, so it gets a node that has no pods.
		NodeName: "/",
	})
	if err != nil {
		return err
	}
	for _, informer := range []cache.SharedIndexInformer{policies.Informer(), pods.Informer()} {
		if _, err := informer.AddEventHandler(e.onChange()); err != nil {
			return err
		}
	}
	e.shared.Start(ctx.Done())
	failed := make(chan error, 1)
	// It goes on while the rest of this program stops, since its queue is then still asked.
	go func() { failed <- engine.Run(context.WithoutCancel(ctx)) }()
	if !cache.WaitForCacheSync(ctx.Done(), pods.Informer().HasSynced, policies.Informer().HasSynced) {
		return ctx.Err()
	}
	return e.keepRules(ctx, failed)
}

// onChange notes that there was a change; how many does not matter.
func (e *enforcer) onChange() cache.ResourceEventHandler {
	note := func() {
		select {
		case e.changed <- struct{}{}:
		default:
		}
	}
	return cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { note() }, UpdateFunc: func(_, _ any) { note() }, DeleteFunc: func(any) { note() },
	}
}

func (e *enforcer) keepRules(ctx context.Context, failed <-chan error) error {
	var last string
	for {
		rules, err := e.rules()
		if err != nil {
			return err
		}
		if text := rules.Text(); text != last {
			if err := applyRules(ctx, rules); err != nil {
				return err
			}
			if last == "" {
				logf("network policies are enforced")
			}
			last = text
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return fmt.Errorf("the policy engine ended: %w", err)
		case <-e.changed:
		}
		if pause(ctx, netpolSettle) != nil {
			return ctx.Err()
		}
	}
}

func (e *enforcer) rules() (netpol.Rules, error) {
	pods, err := e.shared.Core().V1().Pods().Lister().List(labels.Everything())
	if err != nil {
		return netpol.Rules{}, err
	}
	policies, err := e.shared.Networking().V1().NetworkPolicies().Lister().List(labels.Everything())
	if err != nil {
		return netpol.Rules{}, err
	}
	return netpol.RulesFor(e.cidr, netpol.Owners(netpol.Results), pods, policies), nil
}

// applyRules tries again, as the kernel refuses a change that meets another program's.
func applyRules(ctx context.Context, rules netpol.Rules) error {
	for try := 1; ; try++ {
		err := netpol.Apply(ctx, rules)
		if err == nil || try == netpolTries {
			return err
		}
		if pause(ctx, time.Duration(try)*netpolRetry) != nil {
			return ctx.Err()
		}
	}
}
