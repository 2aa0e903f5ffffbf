//go:build linux

package main

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// groupsOf makes a folder of control groups from the kernel's, or skips the test.
func groupsOf(t *testing.T, names ...string) string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		words := strings.Fields(line)
		if len(words) < 3 || words[2] != "cgroup2" {
			continue
		}
		root, err := os.MkdirTemp(words[1], "gateway-freeze-")
		if err != nil {
			t.Skipf("control groups cannot be made here: %v", err)
		}
		t.Cleanup(func() {
			_ = os.WriteFile(filepath.Join(root, "cgroup.kill"), []byte("1"), 0)
			for _, path := range append(names, "") {
				for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
					if os.Remove(filepath.Join(root, path)) == nil {
						break
					}
				}
			}
		})
		for _, name := range slices.Backward(names) {
			if err := os.Mkdir(filepath.Join(root, name), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return root
	}
	t.Skip("this machine has no control groups of version 2")
	return ""
}

// drawing starts a program in a group that prints random bytes as fast as it can; it gives the lines.
func drawing(t *testing.T, group string) <-chan string {
	t.Helper()
	command := exec.Command("sh", "-c", `echo $$ >"$0"/cgroup.procs
while read -r id </proc/sys/kernel/random/uuid; do echo "$id"; done`, group)
	out, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = command.Process.Kill(); _ = command.Wait() })
	lines := make(chan string, 1<<20)
	go func() {
		defer close(lines)
		for scanner := bufio.NewScanner(out); scanner.Scan(); {
			lines <- scanner.Text()
		}
	}()
	if _, ok := within(lines, 5*time.Second); !ok {
		t.Fatalf("nothing runs in %s", group)
	}
	return lines
}

func within(lines <-chan string, limit time.Duration) (string, bool) {
	select {
	case line, ok := <-lines:
		return line, ok
	case <-time.After(limit):
		return "", false
	}
}

// drain takes what was printed before.
func drain(lines <-chan string) {
	for ok := true; ok; {
		_, ok = within(lines, 100*time.Millisecond)
	}
}

func testFreezer(root string, limit time.Duration) *freezer {
	return &freezer{root: root, wait: 2 * time.Second, limit: limit, write: writeState}
}

func TestFreezeStopsEveryProgramButInitUntilThaw(t *testing.T) {
	root := groupsOf(t, "user", "kubepods/pod1", "kubepods", "init")
	user := drawing(t, filepath.Join(root, "user"))
	pod := drawing(t, filepath.Join(root, "kubepods/pod1"))
	own := drawing(t, filepath.Join(root, "init"))
	f := testFreezer(root, time.Minute)
	if still, err := f.freeze(); err != nil || !still {
		t.Fatalf("still %v, %v", still, err)
	}
	for name, lines := range map[string]<-chan string{"user": user, "pod": pod} {
		drain(lines)
		if line, ok := within(lines, 300*time.Millisecond); ok {
			t.Errorf("%s drew %s while it was frozen", name, line)
		}
	}
	if _, ok := within(own, 5*time.Second); !ok {
		t.Error("init is frozen")
	}
	if err := f.thaw(); err != nil {
		t.Fatal(err)
	}
	for name, lines := range map[string]<-chan string{"user": user, "pod": pod} {
		if _, ok := within(lines, 5*time.Second); !ok {
			t.Errorf("%s stays frozen", name)
		}
	}
}

func TestFreezeEndsWithoutTheHost(t *testing.T) {
	root := groupsOf(t, "user")
	lines := drawing(t, filepath.Join(root, "user"))
	if _, err := testFreezer(root, 200*time.Millisecond).freeze(); err != nil {
		t.Fatal(err)
	}
	drain(lines)
	if _, ok := within(lines, 5*time.Second); !ok {
		t.Error("it stays frozen")
	}
}

func TestAnAgentThawsWhatAnotherLeftFrozen(t *testing.T) {
	root := groupsOf(t, "user")
	lines := drawing(t, filepath.Join(root, "user"))
	if _, err := testFreezer(root, time.Minute).freeze(); err != nil {
		t.Fatal(err)
	}
	drain(lines)
	if err := testFreezer(root, time.Minute).thawOthers(); err != nil {
		t.Fatal(err)
	}
	if _, ok := within(lines, 5*time.Second); !ok {
		t.Error("it stays frozen")
	}
}

// fakeGroup is a folder that looks like a control group of which one program never stands still.
func fakeGroup(t *testing.T, root, name, freeze string) string {
	t.Helper()
	dir := filepath.Join(root, name)
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for file, text := range map[string]string{"cgroup.freeze": freeze, "cgroup.events": "populated 1\nfrozen 0\n"} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "cgroup.freeze")
}

func TestFreezeIsBoundedAndLeavesWhatOthersFroze(t *testing.T) {
	root := t.TempDir()
	busy, others := fakeGroup(t, root, "busy", "0"), fakeGroup(t, root, "others", "1")
	f := testFreezer(root, time.Minute)
	f.wait = 50 * time.Millisecond
	if still, err := f.freeze(); err != nil || still {
		t.Fatalf("still %v, %v", still, err)
	}
	// A second request, after an answer that the host did not get, finds what the first one froze.
	if _, err := f.freeze(); err != nil {
		t.Fatal(err)
	}
	if err := f.thaw(); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{busy: "0", others: "1"} {
		if text, _ := os.ReadFile(path); string(text) != want {
			t.Errorf("%s holds %q, want %q", path, text, want)
		}
	}
}

func TestFreezeThatFailsLeavesNothingFrozen(t *testing.T) {
	root := t.TempDir()
	first := fakeGroup(t, root, "a", "0")
	broken := fakeGroup(t, root, "b", "0")
	f := testFreezer(root, time.Minute)
	f.write = func(path, state string) error {
		if path == broken {
			return os.ErrPermission
		}
		return writeState(path, state)
	}
	if _, err := f.freeze(); err == nil {
		t.Fatal("it says that it froze a group that it cannot write to")
	}
	if text, _ := os.ReadFile(first); string(text) != "0" {
		t.Errorf("the first group holds %q", text)
	}
}

func TestControlFreezesProgramsUntilTheyHaveRandomBytesOfTheirOwn(t *testing.T) {
	c := startControl(t, true)
	c.requests.reseed = func(string) error {
		if c.released.Load() != 0 {
			t.Error("programs were let run before the reseed")
		}
		return nil
	}
	_, _ = unix.Write(c.host, []byte("1 freeze\n2 reseed 00\n"))
	lines := hostLines(t, c.host, 2)
	if !strings.HasPrefix(lines[0], "= 1 ok still=true uptime=") || lines[1] != "= 2 ok" {
		t.Errorf("got %q", lines)
	}
	if c.released.Load() != 1 {
		t.Error("programs stay frozen")
	}
}
