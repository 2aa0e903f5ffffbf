package main

import (
	"context"

	"github.com/spf13/pflag"
	kcm "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	kcmoptions "k8s.io/kubernetes/cmd/kube-controller-manager/app/options"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	scheduleroptions "k8s.io/kubernetes/cmd/kube-scheduler/app/options"

	"gateway.local/kubenode/internal/args"
	"gateway.local/kubenode/internal/layout"
)

// controllers are all of upstream's but those that have nothing to do on one node without a cloud:
// attach-detach moves volumes between nodes and looks at them ten times a second; ttl tunes kubelets of
// big clusters; the storage version ones work for several API servers.
const controllers = "*," +
	"-persistentvolume-attach-detach-controller," +
	"-ttl-controller," +
	"-storageversion-garbage-collector-controller," +
	"-storage-version-migrator-controller," +
	"-bootstrap-signer-controller," +
	"-token-cleaner-controller"

func controllerFlags(l layout.Layout, s *args.Server) []string {
	kubeconfig := l.Cred("controller.kubeconfig")
	return append([]string{
		"--kubeconfig=" + kubeconfig,
		"--leader-elect=false", // one node, one process
		"--secure-port=0",      // nobody scrapes it, and a port costs a self-signed certificate at start
		"--profiling=false",
		"--controllers=" + controllers,
		"--use-service-account-credentials=false", // see identities in pki.go
		"--service-account-private-key-file=" + l.TLS("service.key"),
		"--root-ca-file=" + l.TLS("server-ca.crt"),
		"--cluster-signing-kube-apiserver-client-cert-file=" + l.TLS("client-ca.crt"),
		"--cluster-signing-kube-apiserver-client-key-file=" + l.TLS("client-ca.key"),
		"--cluster-signing-kubelet-client-cert-file=" + l.TLS("client-ca.crt"),
		"--cluster-signing-kubelet-client-key-file=" + l.TLS("client-ca.key"),
		"--cluster-signing-kubelet-serving-cert-file=" + l.TLS("server-ca.crt"),
		"--cluster-signing-kubelet-serving-key-file=" + l.TLS("server-ca.key"),
		"--cluster-signing-legacy-unknown-cert-file=" + l.TLS("server-ca.crt"),
		"--cluster-signing-legacy-unknown-key-file=" + l.TLS("server-ca.key"),
		"--allocate-node-cidrs=true",
		"--cluster-cidr=" + s.ClusterCIDR,
		"--service-cluster-ip-range=" + s.ServiceCIDR,
		// The defaults (20 requests a second) hold back the burst of the first minute.
		"--kube-api-qps=200",
		"--kube-api-burst=400",
		// The node's lease lasts five minutes (kubelet.go); it must not count as lost before that.
		"--node-monitor-period=10s",
		"--node-monitor-grace-period=10m",
		// Claims are watched; the timer is a safety net.
		"--pvclaimbinder-sync-period=5m",
		"--attach-detach-reconcile-sync-period=10m",
	}, args.Flags(s.ControllerArgs)...)
}

// prepareControllers returns the function that runs kube-controller-manager.
func prepareControllers(l layout.Layout, s *args.Server) (part, error) {
	o, err := kcmoptions.NewKubeControllerManagerOptions()
	if err != nil {
		return nil, err
	}
	known, off, aliases := kcm.KnownControllers(), kcm.ControllersDisabledByDefault(), kcm.ControllerAliases()
	flags := pflag.NewFlagSet("kube-controller-manager", pflag.ContinueOnError)
	sets := o.Flags(known, off, aliases)
	for _, set := range sets.FlagSets {
		flags.AddFlagSet(set)
	}
	o.ParsedFlags = &sets
	if err := parseFlags(flags, controllerFlags(l, s)); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		config, err := o.Config(ctx, known, off, aliases)
		if err != nil {
			return err
		}
		return kcm.Run(ctx, config.Complete())
	}, nil
}

// prepareScheduler returns the function that runs kube-scheduler.
func prepareScheduler(l layout.Layout, s *args.Server) (part, error) {
	o := scheduleroptions.NewOptions()
	flags := pflag.NewFlagSet("kube-scheduler", pflag.ContinueOnError)
	for _, set := range o.Flags.FlagSets {
		flags.AddFlagSet(set)
	}
	err := parseFlags(flags, append([]string{
		"--kubeconfig=" + l.Cred("scheduler.kubeconfig"),
		"--leader-elect=false",
		"--secure-port=0",
		"--profiling=false",
		"--kube-api-qps=200",
		"--kube-api-burst=400",
	}, args.Flags(s.SchedulerArgs)...))
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		config, scheduling, err := scheduler.Setup(ctx, o)
		if err != nil {
			return err
		}
		return scheduler.Run(ctx, config, scheduling)
	}, nil
}
