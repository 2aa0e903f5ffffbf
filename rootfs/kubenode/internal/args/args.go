// Package args reads the command line of `k3s server`.
// It keeps k3s's flag names, refuses unknown ones with a single error and starts nothing.
package args

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
	// It gives a value as the text that stands there, be it 0644 or 12345678.
	"go.yaml.in/yaml/v2"

	"gateway.local/kubenode/internal/layout"
)

// Server holds every setting of `k3s server` that kubenode honours.
type Server struct {
	DataDir         string
	NodeName        string
	NodeIP          string
	NodeLabels      []string
	NodeTaints      []string
	TLSSANs         []string
	BindAddress     string
	Port            int
	ClusterCIDR     string
	ServiceCIDR     string
	ClusterDNS      string
	ClusterDomain   string
	NodePortRange   string
	PauseImage      string
	Snapshotter     string
	Token           string
	ResolvConf      string
	PrivateRegistry string
	WriteKubeconfig string
	KubeconfigMode  os.FileMode
	Disable         []string
	FlannelBackend  string
	Debug           bool
	Verbosity       int

	DisableKubeProxy bool
	DisablePolicy    bool
	DisableHelm      bool
	HelmJobImage     string

	APIServerArgs  []string
	ControllerArgs []string
	SchedulerArgs  []string
	KubeletArgs    []string
	ProxyArgs      []string

	// Ignored lists flags that k3s knows and that change nothing here.
	Ignored []string
}

// inert are k3s's flags for parts that kubenode does not have; turning them off is what it does anyway.
var inert = []string{
	"disable-cloud-controller",
	"disable-apiserver-lb", "disable-agent-lb", "embedded-registry", "secrets-encryption",
	"rootless", "prefer-bundled-bin", "docker", "protect-kernel-defaults", "cluster-init",
	"selinux", "disable-etcd", "disable-kube-apiserver-lb",
}

// ParseServer reads the arguments after `server`; a config file given by --config (or the default
// one, when it is there) counts as if its keys stood before them.
func ParseServer(argv []string) (*Server, error) {
	s := &Server{}
	fs, raw := newFlagSet(s)
	if err := fs.Parse(argv); err != nil {
		return nil, tidy(err)
	}
	if rest := fs.Args(); len(rest) > 0 {
		return nil, fmt.Errorf("unexpected argument %q: server takes flags only", rest[0])
	}
	fromFile, err := configArgs(fs, raw.config)
	if err != nil {
		return nil, err
	}
	if len(fromFile) > 0 {
		s = &Server{}
		fs, raw = newFlagSet(s)
		if err := fs.Parse(append(fromFile, argv...)); err != nil {
			return nil, tidy(err)
		}
	}
	for _, name := range inert {
		if fs.Changed(name) {
			s.Ignored = append(s.Ignored, name)
		}
	}
	return s, s.finish(raw)
}

type rawFlags struct{ config, mode string }

func newFlagSet(s *Server) (*pflag.FlagSet, *rawFlags) {
	raw := &rawFlags{}
	fs := pflag.NewFlagSet("server", pflag.ContinueOnError)
	fs.Usage = func() {}
	fs.StringVarP(&raw.config, "config", "c", layout.ConfigDir+"/config.yaml", "file with flags as YAML keys")
	fs.StringVarP(&s.DataDir, "data-dir", "d", layout.DefaultDataDir, "where state is kept")
	fs.StringVar(&s.NodeName, "node-name", "", "name of this node (default: the host name)")
	fs.StringVarP(&s.NodeIP, "node-ip", "i", "", "address of this node (default: that of the default route)")
	fs.StringSliceVar(&s.NodeLabels, "node-label", nil, "label KEY=VALUE to register the node with")
	fs.StringSliceVar(&s.NodeTaints, "node-taint", nil, "taint KEY=VALUE:EFFECT to register the node with")
	fs.StringSliceVar(&s.TLSSANs, "tls-san", nil, "further name or address in the API server's certificate")
	fs.StringVar(&s.BindAddress, "bind-address", "0.0.0.0", "address the API server listens on")
	fs.IntVar(&s.Port, "https-listen-port", 6443, "port the API server listens on")
	fs.StringVar(&s.ClusterCIDR, "cluster-cidr", "10.42.0.0/16", "addresses of pods")
	fs.StringVar(&s.ServiceCIDR, "service-cidr", "10.43.0.0/16", "addresses of services")
	fs.StringVar(&s.ClusterDNS, "cluster-dns", "", "address of the cluster's DNS (default: the tenth service address)")
	fs.StringVar(&s.ClusterDomain, "cluster-domain", "cluster.local", "DNS domain of the cluster")
	fs.StringVar(&s.NodePortRange, "service-node-port-range", "30000-32767", "ports for NodePort services")
	fs.StringVar(&s.PauseImage, "pause-image", "gateway.local/pause:3.10", "image that holds a pod's namespaces")
	fs.StringVar(&s.Snapshotter, "snapshotter", "overlayfs", "containerd snapshotter")
	fs.StringVarP(&s.Token, "token", "t", "", "secret to join the cluster with (written to server/token)")
	fs.StringVar(&s.ResolvConf, "resolv-conf", "", "resolv.conf for pods (default: the host's)")
	fs.StringVar(&s.PrivateRegistry, "private-registry", layout.RegistriesFile, "registries configuration file")
	fs.StringVarP(&s.WriteKubeconfig, "write-kubeconfig", "o", layout.Kubeconfig, "where to write the administrator's kubeconfig")
	fs.StringVar(&raw.mode, "write-kubeconfig-mode", "600", "its permissions, octal")
	fs.StringSliceVar(&s.Disable, "disable", nil, "packaged components not to deploy")
	fs.StringVar(&s.FlannelBackend, "flannel-backend", "none", "only none: the network is the host's CNI configuration")
	fs.BoolVar(&s.DisableKubeProxy, "disable-kube-proxy", false, "do not run kube-proxy")
	fs.BoolVar(&s.DisablePolicy, "disable-network-policy", false, "do not enforce NetworkPolicies")
	fs.BoolVar(&s.DisableHelm, "disable-helm-controller", false, "do not serve HelmChart")
	fs.StringVar(&s.HelmJobImage, "helm-job-image", "gateway.local/helm:1", "image that installs a HelmChart which names none")
	fs.BoolVar(&s.Debug, "debug", false, "log what the parts log at level 2")
	fs.IntVarP(&s.Verbosity, "v", "v", 0, "log level of the Kubernetes parts")
	fs.StringArrayVar(&s.APIServerArgs, "kube-apiserver-arg", nil, "flag for kube-apiserver, NAME=VALUE")
	fs.StringArrayVar(&s.ControllerArgs, "kube-controller-manager-arg", nil, "flag for kube-controller-manager, NAME=VALUE")
	fs.StringArrayVar(&s.SchedulerArgs, "kube-scheduler-arg", nil, "flag for kube-scheduler, NAME=VALUE")
	fs.StringArrayVar(&s.KubeletArgs, "kubelet-arg", nil, "flag for kubelet, NAME=VALUE")
	fs.StringArrayVar(&s.ProxyArgs, "kube-proxy-arg", nil, "flag for kube-proxy, NAME=VALUE")
	for _, name := range inert {
		fs.Bool(name, false, "accepted; changes nothing here")
	}
	return fs, raw
}

// tidy turns pflag's message into one line that names the flag and where to look.
func tidy(err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	return fmt.Errorf("%s (see `k3s server --help`)", strings.SplitN(err.Error(), "\n", 2)[0])
}

// Usage is the text of `k3s server --help`.
func Usage() string {
	fs, _ := newFlagSet(&Server{})
	return "Usage: k3s server [FLAGS]\n\nRuns the cluster of this node: API server, controllers, scheduler, kubelet, kube-proxy, containerd and kine.\n\nExample: k3s server --node-ip=192.168.127.2 --disable=traefik,servicelb\n\nFlags:\n" + fs.FlagUsages()
}

// setting is the value of a key of the config file, or each of a list: what YAML makes of it, and the text that stands there.
type setting struct {
	values []any
	texts  []string
}

// UnmarshalYAML reads a single value or a list of them.
func (s *setting) UnmarshalYAML(unmarshal func(any) error) error {
	if unmarshal(&s.values) == nil {
		return unmarshal(&s.texts)
	}
	s.values, s.texts = make([]any, 1), make([]string, 1)
	if err := unmarshal(&s.texts[0]); err != nil {
		return err
	}
	return unmarshal(&s.values[0])
}

// configArgs gives the keys of the config file as flags. A key without a value is as good as absent.
func configArgs(fs *pflag.FlagSet, path string) ([]string, error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && !fs.Changed("config") {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("cannot read the config file: %w", err)
	}
	values := map[string]setting{}
	if err := yaml.Unmarshal(data, &values); err != nil {
		return nil, fmt.Errorf("cannot read the config file %s: it is not a YAML mapping of flags to values or lists of values", path)
	}
	var out []string
	for _, key := range slices.Sorted(maps.Keys(values)) {
		flag := fs.Lookup(key)
		if flag == nil {
			return nil, fmt.Errorf("unknown flag %q in the config file %s (see `k3s server --help`)", key, path)
		}
		for i, text := range values[key].texts {
			switch value := values[key].values[i].(type) {
			case nil:
				continue
			case bool: // YAML has more words for it than flags have
				if flag.Value.Type() == "bool" {
					text = strconv.FormatBool(value)
				}
			}
			out = append(out, "--"+key+"="+text)
		}
	}
	return out, nil
}

func (s *Server) finish(raw *rawFlags) error {
	mode, err := strconv.ParseUint(raw.mode, 8, 32)
	if err != nil || mode > 0o777 {
		return fmt.Errorf("--write-kubeconfig-mode %q is not octal permissions like 600", raw.mode)
	}
	s.KubeconfigMode = os.FileMode(mode)
	if s.FlannelBackend != "none" {
		return fmt.Errorf("--flannel-backend %q is not available: kubenode has no flannel; pass none and configure CNI on the host", s.FlannelBackend)
	}
	if s.Port < 1 || s.Port > 65535 {
		return fmt.Errorf("--https-listen-port %d is not a port", s.Port)
	}
	if s.NodeName == "" {
		if s.NodeName, err = os.Hostname(); err != nil {
			return fmt.Errorf("cannot find the host name, pass --node-name: %w", err)
		}
	}
	s.NodeName = strings.ToLower(s.NodeName)
	if s.NodeIP != "" && net.ParseIP(s.NodeIP) == nil {
		return fmt.Errorf("--node-ip %q is not an IP address", s.NodeIP)
	}
	if net.ParseIP(s.BindAddress) == nil {
		return fmt.Errorf("--bind-address %q is not an IP address", s.BindAddress)
	}
	return s.finishNetworks()
}

func (s *Server) finishNetworks() error {
	if _, _, err := net.ParseCIDR(s.ClusterCIDR); err != nil {
		return fmt.Errorf("--cluster-cidr %q is not a network like 10.42.0.0/16", s.ClusterCIDR)
	}
	first, err := s.ServiceAddress(10)
	if err != nil {
		return err
	}
	if s.ClusterDNS == "" {
		s.ClusterDNS = first.String()
	}
	if net.ParseIP(s.ClusterDNS) == nil {
		return fmt.Errorf("--cluster-dns %q is not an IP address", s.ClusterDNS)
	}
	for _, set := range [][]string{s.APIServerArgs, s.ControllerArgs, s.SchedulerArgs, s.KubeletArgs, s.ProxyArgs} {
		for _, arg := range set {
			if arg == "" || strings.HasPrefix(arg, "=") {
				return fmt.Errorf("component argument %q is not NAME=VALUE", arg)
			}
		}
	}
	return nil
}

// ServiceAddress is the nth address of the service network: 1 is the API's, 10 is DNS's.
func (s *Server) ServiceAddress(n byte) (net.IP, error) {
	ip, network, err := net.ParseCIDR(s.ServiceCIDR)
	if err != nil || ip.To4() == nil || network.IP.To4() == nil {
		return nil, fmt.Errorf("--service-cidr %q is not an IPv4 network like 10.43.0.0/16", s.ServiceCIDR)
	}
	out := make(net.IP, 4)
	copy(out, network.IP.To4())
	out[3] += n
	if !network.Contains(out) {
		return nil, fmt.Errorf("--service-cidr %q is too small", s.ServiceCIDR)
	}
	return out, nil
}

// Flags turns k3s's NAME=VALUE component arguments into --NAME=VALUE.
func Flags(component []string) []string {
	out := make([]string, 0, len(component))
	for _, arg := range component {
		out = append(out, "--"+strings.TrimLeft(arg, "-"))
	}
	return out
}
