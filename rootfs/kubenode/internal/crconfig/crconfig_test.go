package crconfig

import (
	"strings"
	"testing"
)

func TestTOMLNamesWhatItWasGiven(t *testing.T) {
	got := TOML(Settings{Root: "/r", State: "/s", Socket: "/k.sock", Snapshotter: "overlayfs", PauseImage: "p:1", CNIBinDir: "/b", CNIConfDir: "/c", CertsDir: "/d", ShimPath: "/shim", RestrictOOMScore: true})
	for _, want := range []string{"version = 3", `root = "/r"`, `address = "/k.sock"`, `sandbox = "p:1"`, `bin_dirs = ["/b"]`, `conf_dir = "/c"`, `runtime_path = "/shim"`, "SystemdCgroup = false", "restrict_oom_score_adj = true", `config_path = "/d"`} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q", want)
		}
	}
}

func TestTOMLKeepsTheSnapshotterThatIsAskedFor(t *testing.T) {
	if strings.Contains(TOML(Settings{Snapshotter: "erofs"}), `"io.containerd.snapshotter.v1.erofs"`) {
		t.Error("the chosen snapshotter is disabled")
	}
	if strings.Contains(TOML(Settings{Snapshotter: "overlayfs"}), "runtime_path") {
		t.Error("an empty shim path is written")
	}
}
