// Package crconfig writes the text of containerd's configuration; it starts and reads nothing.
package crconfig

import (
	"fmt"
	"strconv"
	"strings"
)

// Settings are the values that differ between hosts and instances.
type Settings struct {
	Root        string // where images and snapshots are kept
	State       string // where running containers are kept
	Socket      string
	Snapshotter string
	PauseImage  string
	CNIBinDir   string
	CNIConfDir  string
	CertsDir    string // hosts.toml of registries
	ShimPath    string // empty: containerd looks for the shim on PATH
	// RestrictOOMScore is for hosts where root may not lower oom_score_adj (no CAP_SYS_RESOURCE).
	RestrictOOMScore bool
	// Registries is appended as it is: the credentials.
	Registries string
}

// unused are plugins that only cost time at start here: snapshotters and differs of other filesystems,
// tracing and resource interfaces that nothing configures.
var unused = []string{
	"io.containerd.snapshotter.v1.blockfile",
	"io.containerd.snapshotter.v1.erofs",
	"io.containerd.differ.v1.erofs",
	"io.containerd.mount-handler.v1.erofs",
	"io.containerd.mount-handler.v1.fsview",
	"io.containerd.image-verifier.v1.bindir",
	"io.containerd.tracing.processor.v1.otlp",
	"io.containerd.internal.v1.tracing",
	"io.containerd.nri.v1.nri",
	"io.containerd.internal.v1.opt", // writes below /opt, which is read-only
}

// TOML renders the configuration.
func TOML(s Settings) string {
	var b strings.Builder
	line := func(parts ...string) { b.WriteString(strings.Join(parts, "") + "\n") }
	q := Quote
	line("# Written by k3s at every start; changes here are lost.")
	line("version = 3")
	line("root = ", q(s.Root))
	line("state = ", q(s.State))
	line("disabled_plugins = [")
	for _, plugin := range unused {
		if !strings.HasSuffix(plugin, "."+s.Snapshotter) {
			line("  ", q(plugin), ",")
		}
	}
	line("]")
	line("\n[grpc]")
	line("  address = ", q(s.Socket))
	line("\n[plugins.'io.containerd.cri.v1.runtime']")
	line("  enable_selinux = false")
	line("  # As k3s: pods may bind low ports and ping without a capability.")
	line("  enable_unprivileged_ports = true")
	line("  enable_unprivileged_icmp = true")
	line("  restrict_oom_score_adj = ", strconv.FormatBool(s.RestrictOOMScore))
	line("  # Nobody asks for container statistics between two scrapes; each round reads every cgroup.")
	line("  stats_collect_period = \"60s\"")
	line("\n[plugins.'io.containerd.cri.v1.runtime'.cni]")
	line("  bin_dirs = [", q(s.CNIBinDir), "]")
	line("  conf_dir = ", q(s.CNIConfDir))
	line("  # Containerd does it itself, which saves a process for each pod that starts or ends.")
	line("  use_internal_loopback = true")
	line("\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]")
	line("  runtime_type = \"io.containerd.runc.v2\"")
	if s.ShimPath != "" {
		line("  runtime_path = ", q(s.ShimPath))
	}
	line("\n[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]")
	line("  SystemdCgroup = false")
	line("\n[plugins.'io.containerd.cri.v1.images']")
	line("  snapshotter = ", q(s.Snapshotter))
	line("  # Only lazy-pulling snapshotters read these annotations.")
	line("  disable_snapshot_annotations = true")
	line("  stats_collect_period = 300")
	line("\n[plugins.'io.containerd.cri.v1.images'.pinned_images]")
	line("  sandbox = ", q(s.PauseImage))
	line("\n[plugins.'io.containerd.cri.v1.images'.registry]")
	if s.Registries == "" {
		line("  config_path = ", q(s.CertsDir))
	} else {
		line("  config_path = ", q(s.CertsDir))
		line(s.Registries)
	}
	return b.String()
}

// Quote makes a basic string of TOML, whose escapes are fewer than Go's: it has no \a, \v or \x.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, "\\u%04x", r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
