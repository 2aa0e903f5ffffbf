package main

import (
	"context"

	"github.com/spf13/pflag"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"

	"gateway.local/kubenode/internal/args"
	"gateway.local/kubenode/internal/layout"
)

func proxyFlags(l layout.Layout, s *args.Server) []string {
	return append([]string{
		"--kubeconfig=" + l.Agent("kubeproxy.kubeconfig"),
		"--hostname-override=" + s.NodeName,
		"--proxy-mode=nftables",
		"--cluster-cidr=" + s.ClusterCIDR,
		"--healthz-port=0", // nobody asks it here
		// Leave the kernel's connection tracking as it is.
		"--conntrack-max-per-core=0",
		"--conntrack-tcp-timeout-established=0s",
		"--conntrack-tcp-timeout-close-wait=0s",
		// Changes are watched; the timer only repeats failed syncs and clears stale connections.
		"--iptables-sync-period=5m",
		// Default one second: a new NodePort waits at most a tenth of it.
		"--iptables-min-sync-period=100ms",
		"--config-sync-period=12h",
	}, args.Flags(s.ProxyArgs)...)
}

// prepareProxy returns the function that runs kube-proxy.
func prepareProxy(l layout.Layout, s *args.Server) (part, error) {
	o := proxy.NewOptions()
	flags := pflag.NewFlagSet("kube-proxy", pflag.ContinueOnError)
	o.AddFlags(flags)
	if err := parseFlags(flags, proxyFlags(l, s)); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := o.Complete(flags); err != nil {
			return err
		}
		if err := o.Validate(); err != nil {
			return err
		}
		return o.Run(ctx)
	}, nil
}
