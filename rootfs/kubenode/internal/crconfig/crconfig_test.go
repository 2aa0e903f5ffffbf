package crconfig

import (
	"strings"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

func TestTOMLNamesWhatItWasGiven(t *testing.T) {
	got := TOML(Settings{Root: "/r", State: "/s", Socket: "/k.sock", Snapshotter: "overlayfs", PauseImage: "p:1", CNIBinDir: "/b", CNIConfDir: "/c", CertsDir: "/d", ShimPath: "/shim", RestrictOOMScore: true})
	for _, want := range []string{"version = 3", `root = "/r"`, `address = "/k.sock"`, `sandbox = "p:1"`, `bin_dirs = ["/b"]`, `conf_dir = "/c"`, `runtime_path = "/shim"`, "SystemdCgroup = false", "use_internal_loopback = true", "restrict_oom_score_adj = true", `config_path = "/d"`} {
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

func TestQuoteIsReadByContainerdAsTheSameText(t *testing.T) {
	for _, text := range []string{"", "on", `a"b\c`, "\a\v\b\x00\x1f\x7f\n\t", "é\u0085\u2028\U0001f600"} {
		var got struct{ A string }
		if err := toml.Unmarshal([]byte("A = "+Quote(text)), &got); err != nil || got.A != text {
			t.Errorf("%q became %q (%v)", text, got.A, err)
		}
	}
}
