package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/pflag"
	v1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/kubernetes/cmd/kubelet/app"
	"k8s.io/kubernetes/cmd/kubelet/app/options"
	kubeletconfig "k8s.io/kubernetes/pkg/kubelet/apis/config"
	"k8s.io/kubernetes/pkg/kubelet/apis/config/validation"
	taints "k8s.io/kubernetes/pkg/util/taints"

	"gateway.local/kubenode/internal/args"
	"gateway.local/kubenode/internal/layout"
)

func duration(d time.Duration) metav1.Duration { return metav1.Duration{Duration: d} }

// prepareKubelet returns the function that runs kubelet.
func (c *cluster) prepareKubelet(l layout.Layout, s *args.Server) (part, error) {
	flags := options.NewKubeletFlags()
	config, err := options.NewKubeletConfiguration()
	if err != nil {
		return nil, err
	}
	if err := identify(flags, config, l, s); err != nil {
		return nil, err
	}
	connect(config, l, s)
	tune(config)
	set := pflag.NewFlagSet("kubelet", pflag.ContinueOnError)
	flags.AddFlags(set)
	options.AddKubeletConfigFlags(set, config)
	if err := parseFlags(set, args.Flags(s.KubeletArgs)); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		if err := validation.ValidateKubeletConfiguration(config, utilfeature.DefaultFeatureGate); err != nil {
			return err
		}
		server := &options.KubeletServer{KubeletFlags: *flags, KubeletConfiguration: *config}
		dependencies, err := app.UnsecuredDependencies(ctx, server, utilfeature.DefaultFeatureGate)
		if err != nil {
			return err
		}
		if err := watchPods(ctx, server, dependencies, c.allPods); err != nil {
			return err
		}
		return app.Run(ctx, server, dependencies, utilfeature.DefaultFeatureGate)
	}, nil
}

// identify says which node this is.
func identify(f *options.KubeletFlags, c *kubeletconfig.KubeletConfiguration, l layout.Layout, s *args.Server) error {
	f.KubeConfig = l.Agent("kubelet.kubeconfig")
	f.HostnameOverride = s.NodeName
	f.NodeIP = s.NodeIP
	f.RootDirectory = layout.KubeletDir
	f.CertDirectory = l.Agent("pki")
	f.NodeLabels = map[string]string{}
	for _, label := range s.NodeLabels {
		key, value, _ := strings.Cut(label, "=")
		f.NodeLabels[key] = value
	}
	if len(s.NodeTaints) > 0 {
		parsed, _, err := taints.ParseTaints(s.NodeTaints)
		if err != nil {
			return fmt.Errorf("--node-taint: %w", err)
		}
		c.RegisterWithTaints = append([]v1.Taint(nil), parsed...)
	}
	return nil
}

// connect says where everything is.
func connect(c *kubeletconfig.KubeletConfiguration, l layout.Layout, s *args.Server) {
	c.ContainerRuntimeEndpoint = "unix://" + layout.ContainerdSocket
	c.StaticPodPath = l.Agent("pod-manifests")
	c.VolumePluginDir = l.Agent("libexec", "kubelet-plugins") // the default is below the read-only root
	c.Address = "0.0.0.0"
	c.ReadOnlyPort = 0
	c.HealthzPort = 0
	c.TLSCertFile = l.Agent("serving-kubelet.crt")
	c.TLSPrivateKeyFile = l.Agent("serving-kubelet.key")
	c.Authentication.X509.ClientCAFile = l.Agent("client-ca.crt")
	c.Authentication.Anonymous.Enabled = false
	c.Authentication.Webhook.Enabled = true
	c.Authorization.Mode = kubeletconfig.KubeletAuthorizationModeWebhook
	c.ClusterDomain = s.ClusterDomain
	c.ClusterDNS = []string{s.ClusterDNS}
	c.CgroupDriver = "cgroupfs" // there is no systemd in the guest
	c.CgroupRoot = "/"
	c.FailSwapOn = false
	c.ResolverConfig = s.ResolvConf
	if c.ResolverConfig == "" {
		if _, err := os.Stat("/etc/resolv.conf"); err == nil {
			c.ResolverConfig = "/etc/resolv.conf"
		}
	}
}

// tune trades the defaults, which suit a busy server among thousands, for a quick start and a quiet idle.
func tune(c *kubeletconfig.KubeletConfiguration) {
	// Secrets are read when they are mounted: a watch for each has to be open within a second, which under emulation it is
	// not, and a mount that fails waits longer each time. A changed one reaches a running pod at its next sync, which is
	// each minute, or when the pod is touched, as a start does that changes certificates.
	c.ConfigMapAndSecretChangeDetectionStrategy = kubeletconfig.GetChangeDetectionStrategy
	// Conditions that change are sent at once; this timer and the lease only say that the node lives.
	c.NodeStatusUpdateFrequency = duration(30 * time.Second)
	c.NodeStatusReportFrequency = duration(10 * time.Minute)
	c.NodeLeaseDurationSeconds = 300
	// The images come with the root image and there is no second node to move to: never evict or delete for disk space.
	c.ImageGCHighThresholdPercent = 100
	c.ImageGCLowThresholdPercent = 99
	c.EvictionHard = map[string]string{"memory.available": "50Mi"}
	// Adding up the sizes of volumes walks every file of them.
	c.VolumeStatsAggPeriod = duration(30 * time.Minute)
	c.ContainerLogMonitorInterval = duration(time.Minute)
	c.SerializeImagePulls = false
	c.KubeAPIQPS, c.KubeAPIBurst = 200, 400
	c.EventRecordQPS, c.EventBurst = 50, 100
	// Under emulation a sandbox can take a while.
	c.RuntimeRequestTimeout = duration(5 * time.Minute)
	// kube-proxy uses nftables; there may be no iptables at all.
	c.MakeIPTablesUtilChains = false
	c.EnableProfilingHandler = false
}
