package confine

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const confinedDir = "GVPROXY_CONFINED_DIR"

// It confines itself and tries: nothing brings a test's own process back.
func init() {
	if dir := os.Getenv(confinedDir); dir != "" {
		tryConfined(dir)
	}
}

func tryConfined(dir string) {
	user := 0
	if os.Getuid() == 0 {
		user = 65534
	}
	told, err := Process(user, filepath.Join(dir, "run"))
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	found := map[string]any{"told": told}
	try := func(name string, err error) { found[name] = err == nil }
	_, err = os.ReadFile(filepath.Join(dir, "home", "id_ed25519"))
	try("home", err)
	_, err = os.ReadFile("/etc/shadow")
	try("shadow", err)
	_, err = os.ReadFile("/etc/hosts")
	try("hosts", err)
	try("write", os.WriteFile(filepath.Join(dir, "run", "new"), nil, 0o600))
	try("exec", exec.Command("/bin/true").Run())
	// A thread of its own may have been made at any time.
	ended := make(chan error)
	for range 20 {
		go func() {
			_, err := os.ReadFile(filepath.Join(dir, "home", "id_ed25519"))
			time.Sleep(time.Millisecond)
			ended <- err
		}()
	}
	for range 20 {
		if err := <-ended; err == nil {
			found["home"] = true
		}
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	try("listen", err)
	_, err = net.Dial("tcp", listener.Addr().String())
	try("dial", err)
	_, err = net.Listen("tcp", "127.0.0.1:1")
	try("low", err)
	_, err = net.Interfaces()
	try("interfaces", err)
	_, err = net.ListenPacket("udp", "127.0.0.1:0")
	try("udp", err)
	_ = json.NewEncoder(os.Stdout).Encode(found)
	os.Exit(0)
}

func TestAConfinedProcessHasTheNetworkAndNothingElse(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"home", "run"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o777); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "home", "id_ed25519"), []byte("secret"), 0o644); err != nil {
		t.Fatal(err)
	}
	// So that a user without rights would read it but for Landlock.
	for path := dir; path != "/"; path = filepath.Dir(path) {
		if strings.Contains(path, t.Name()) {
			_ = os.Chmod(path, 0o755)
		}
	}
	self, _ := os.Executable()
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), confinedDir+"="+dir)
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "operation not supported") {
		t.Skip("this test was built with cgo, with which Go cannot confine all threads")
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var found map[string]any
	if err := json.Unmarshal(out, &found); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	told := found["told"].(map[string]any)
	t.Logf("%v", told)
	want := map[string]bool{
		"exec": false, "hosts": true, "listen": true, "dial": true, "interfaces": true, "udp": true,
	}
	if told["landlock"].(float64) > 0 {
		want["home"], want["write"] = false, false
	} else {
		t.Logf("skipped for files: %v", told["why"])
	}
	if os.Getuid() == 0 && told["user"].(float64) != 0 {
		want["shadow"], want["low"] = false, true
	}
	for name, allowed := range want {
		if found[name] != allowed {
			t.Errorf("%s: got %v, want %v", name, found[name], allowed)
		}
	}
}
