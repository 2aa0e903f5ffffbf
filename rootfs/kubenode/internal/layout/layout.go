// Package layout names every file of k3s's data directory in one place.
// It holds no other knowledge: nothing here reads or writes a file.
package layout

import "path/filepath"

// Paths of things that do not live below the data directory.
const (
	// RunDir holds sockets and container state; it must not outlive a boot.
	RunDir = "/run/k3s"
	// ContainerdSocket is where containerd serves; crictl and ctr look for it.
	ContainerdSocket = RunDir + "/containerd/containerd.sock"
	// ConfigDir holds what an administrator edits and reads.
	ConfigDir = "/etc/rancher/k3s"
	// Kubeconfig is the administrator's kubeconfig when no other path is asked for.
	Kubeconfig = ConfigDir + "/k3s.yaml"
	// RegistriesFile configures mirrors and credentials of container registries.
	RegistriesFile = ConfigDir + "/registries.yaml"
	// DefaultDataDir is the data directory when --data-dir is absent.
	DefaultDataDir = "/var/lib/rancher/k3s"
	// CNIBinDir is where the root image keeps the CNI plugins.
	CNIBinDir = "/opt/cni/bin"
	// ShimPath is the containerd shim of the root image.
	ShimPath = "/usr/local/bin/containerd-shim-runc-v2"
	// KubeletDir is kubelet's root directory, as pods and CSI drivers expect it.
	KubeletDir = "/var/lib/kubelet"
)

// Layout resolves names below one data directory.
type Layout struct{ Root string }

// Server joins names below DATA/server.
func (l Layout) Server(names ...string) string {
	return filepath.Join(append([]string{l.Root, "server"}, names...)...)
}

// Agent joins names below DATA/agent.
func (l Layout) Agent(names ...string) string {
	return filepath.Join(append([]string{l.Root, "agent"}, names...)...)
}

// TLS joins names below DATA/server/tls.
func (l Layout) TLS(names ...string) string {
	return l.Server(append([]string{"tls"}, names...)...)
}

// Cred joins names below DATA/server/cred, where kubeconfigs of the parts live.
func (l Layout) Cred(name string) string { return l.Server("cred", name) }

// Database is kine's SQLite file.
func (l Layout) Database() string { return l.Server("db", "state.db") }

// KineSocket is where kine serves the etcd protocol to the API server.
func (l Layout) KineSocket() string { return l.Server("kine.sock") }

// Manifests is the auto-deploy directory.
func (l Layout) Manifests() string { return l.Server("manifests") }

// AppliedRecord remembers which objects each manifest file brought, for pruning.
func (l Layout) AppliedRecord() string { return l.Server("manifests-applied.json") }

// Images is the directory of image archives to import.
func (l Layout) Images() string { return l.Agent("images") }

// ImageRecord remembers which archives were imported.
func (l Layout) ImageRecord() string { return l.Agent("containerd", "imported-archives.json") }

// CNIConfDir is where the CNI network configuration is read from.
func (l Layout) CNIConfDir() string { return l.Agent("etc", "cni", "net.d") }

// Directories lists every directory to make at start with its permissions.
func (l Layout) Directories() map[string]uint32 {
	return map[string]uint32{
		l.Root:                                0o755,
		l.Server():                            0o700,
		l.Server("db"):                        0o700,
		l.Server("cred"):                      0o700,
		l.TLS():                               0o700,
		l.Manifests():                         0o700,
		l.Agent():                             0o755,
		l.Images():                            0o755,
		l.Agent("containerd"):                 0o711,
		l.Agent("pod-manifests"):              0o700,
		l.CNIConfDir():                        0o755,
		l.Agent("etc", "containerd"):          0o700,
		l.Agent("libexec", "kubelet-plugins"): 0o700,
		RunDir:                                0o711,
		ConfigDir:                             0o755,
	}
}
