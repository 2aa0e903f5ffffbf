//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// socketPort returns a port whose host is the other end of a socket pair. The atomic plays the part
// of the host being there or not, which a socket cannot.
func socketPort(t *testing.T) (*port, int, *atomic.Bool) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	p := newPort(fds[0])
	here := &atomic.Bool{}
	here.Store(true)
	real := p.revents
	p.revents = func(events int16) int16 {
		if !here.Load() {
			return unix.POLLHUP
		}
		return real(events)
	}
	return p, fds[1], here
}

type testControl struct {
	*control
	host    int
	here    *atomic.Bool
	fifo    string
	stopped atomic.Int32
	// released counts how often programs were let run.
	released atomic.Int32
}

func startControl(t *testing.T, connected bool) *testControl {
	t.Helper()
	p, host, here := socketPort(t)
	here.Store(connected)
	tc := &testControl{host: host, here: here, fifo: filepath.Join(t.TempDir(), "run/marks")}
	fd, err := openMarks(tc.fifo)
	if err != nil {
		t.Fatal(err)
	}
	tc.control = &control{
		open:     func() (*port, error) { return p, nil },
		marks:    fd,
		poweroff: func() error { tc.stopped.Add(1); return nil },
		grace:    300 * time.Millisecond,
	}
	tc.requests = &requestHandler{
		setClock: func(string) (time.Duration, error) { return 1500 * time.Millisecond, nil },
		reseed:   func(string) error { return errors.New("no\nentropy") },
		freeze:   func() (bool, error) { return true, nil },
		release:  func() error { tc.released.Add(1); return nil },
		payload:  func() (int, error) { return 3, nil },
		poweroff: func() error { return tc.poweroff() },
	}
	end := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-end:
				return
			default:
				if err := tc.step(); err != nil {
					t.Error(err)
					return
				}
			}
		}
	}()
	t.Cleanup(func() {
		close(end)
		_ = writeMark(tc.fifo, "0.00 end\n") // wakes a loop that waits without a bound
		<-done
		unix.Close(fd)
	})
	return tc
}

// hostLines reads from the host's end until it has n lines.
func hostLines(t *testing.T, fd, n int) []string {
	t.Helper()
	var got []byte
	buffer := make([]byte, 65536)
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		k, err := unix.Read(fd, buffer)
		if err == nil && k > 0 {
			got = append(got, buffer[:k]...)
		}
		if bytes.Count(got, []byte("\n")) >= n {
			return strings.Split(strings.TrimSuffix(string(got), "\n"), "\n")
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatalf("the host got only %q", got)
	return nil
}

func TestControlForwardsMarksOfWritersThatComeAndGo(t *testing.T) {
	c := startControl(t, true)
	for i := range 3 {
		if err := writeMark(c.fifo, fmt.Sprintf("%d.00 mark-%d\n", i, i)); err != nil {
			t.Fatal(err)
		}
	}
	got := strings.Join(hostLines(t, c.host, 3), "|")
	if got != "0.00 mark-0|1.00 mark-1|2.00 mark-2" {
		t.Fatalf("got %q", got)
	}
}

func TestControlKeepsMarksUntilTheHostIsThere(t *testing.T) {
	c := startControl(t, false)
	for i := range 2000 {
		if err := writeMark(c.fifo, fmt.Sprintf("0.10 m%d\n", i)); err != nil {
			time.Sleep(time.Millisecond)
		}
		if i%100 == 0 {
			time.Sleep(10 * time.Millisecond)
		}
	}
	_ = writeMark(c.fifo, "! network: no lease\n")
	time.Sleep(150 * time.Millisecond)
	if c.stopped.Load() != 0 {
		t.Fatal("stopped the guest though no host was ever there")
	}
	c.here.Store(true)
	lines := hostLines(t, c.host, maxQueued+2)
	if lines[0] != "0.10 m0" || lines[maxQueued] != "! network: no lease" {
		t.Fatalf("first %q, failure %q", lines[0], lines[maxQueued])
	}
	if !strings.Contains(lines[maxQueued+1], " marks-dropped count=") {
		t.Fatalf("last %q", lines[maxQueued+1])
	}
}

func TestControlAnswersRequests(t *testing.T) {
	c := startControl(t, true)
	_, _ = unix.Write(c.host, []byte("1 clock 17.5\n2 reseed 00\n3 payload\n4 nonsense\n5 poweroff\n6 pi"))
	time.Sleep(20 * time.Millisecond)
	_, _ = unix.Write(c.host, []byte("ng\n"))
	want := []string{
		"= 1 ok offset=1.500000", "= 2 error no entropy", "= 3 ok files=3",
		`= 4 error unknown request "nonsense"`, "= 5 ok", "= 6 ok ",
	}
	for i, line := range hostLines(t, c.host, len(want)) {
		if !strings.HasPrefix(line, want[i]) {
			t.Errorf("got %q, want %q", line, want[i])
		}
	}
	if c.stopped.Load() != 1 {
		t.Error("poweroff did not reach PID 1")
	}
	if c.released.Load() != 0 {
		t.Error("programs run with the random state of another guest")
	}
}

func TestControlStopsTheGuestOnceWhenTheHostIsGone(t *testing.T) {
	c := startControl(t, true)
	_ = writeMark(c.fifo, "0.00 up\n")
	hostLines(t, c.host, 1)
	c.here.Store(false)
	_ = writeMark(c.fifo, "0.00 wake\n")
	time.Sleep(150 * time.Millisecond)
	c.here.Store(true) // back within the grace: nothing happens
	time.Sleep(400 * time.Millisecond)
	if c.stopped.Load() != 0 {
		t.Fatal("stopped within the grace")
	}
	c.here.Store(false)
	_ = writeMark(c.fifo, "0.00 wake\n")
	time.Sleep(700 * time.Millisecond)
	if n := c.stopped.Load(); n != 1 {
		t.Fatalf("stopped %d times", n)
	}
}

func TestControlDoesNotSpinWithoutAHost(t *testing.T) {
	startControl(t, false)
	var before, after unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
	time.Sleep(500 * time.Millisecond)
	_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
	used := time.Duration(after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano())
	if used > 100*time.Millisecond {
		t.Fatalf("used %v of processor time in 500 ms", used)
	}
}

func TestLineQueueSendsABrokenLineAgain(t *testing.T) {
	q := lineQueue{lines: []string{"0.10 half\n"}, sent: 4}
	q.restart()
	r, w, _ := os.Pipe()
	q.flush(int(w.Fd()))
	w.Close()
	got := make([]byte, 64)
	n, _ := r.Read(got)
	if string(got[:n]) != "0.10 half\n" {
		t.Fatalf("got %q", got[:n])
	}
}

func TestLineBufferCutsAndSkips(t *testing.T) {
	var b lineBuffer
	if got := b.add([]byte("a\r\n\nb")); len(got) != 1 || got[0] != "a" {
		t.Fatalf("got %q", got)
	}
	if got := b.add([]byte("c\n")); len(got) != 1 || got[0] != "bc" {
		t.Fatalf("got %q", got)
	}
	if got := b.add(bytes.Repeat([]byte("x"), maxLine+10)); len(got) != 1 || len(got[0]) != maxLine-1 {
		t.Fatalf("got %d lines", len(got))
	}
}

func TestMarkLine(t *testing.T) {
	line, err := markLine([]string{"net work", "ip=1\n2"})
	fields := strings.Fields(line)
	if err != nil || len(fields) != 3 || fields[1] != "net_work" || fields[2] != "ip=1_2" {
		t.Fatalf("%q %v", line, err)
	}
}

func TestParseClock(t *testing.T) {
	for text, want := range map[string]int64{
		"1790000000.123456789": 1790000000123456789, "17": 17e9, "17.5": 17_500_000_000,
	} {
		if got, err := parseClock(text); err != nil || got.Nano() != want {
			t.Errorf("%s: %d %v", text, got.Nano(), err)
		}
	}
	for _, text := range []string{"", "-1", "1.1234567890", "1,5", "x", "1.x", "99999999999999"} {
		if _, err := parseClock(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestReseedRefusesABadSeed(t *testing.T) {
	for _, seed := range []string{"", "zz", "00", strings.Repeat("00", 513)} {
		if err := reseed(seed); err == nil {
			t.Errorf("%q was taken", seed)
		}
	}
}

func writeTar(t *testing.T, path string, entries ...tar.Header) {
	t.Helper()
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for _, entry := range entries {
		body := []byte("body of " + entry.Name)
		if entry.Typeflag == tar.TypeReg {
			entry.Size = int64(len(body))
		}
		if err := w.WriteHeader(&entry); err != nil {
			t.Fatal(err)
		}
		if entry.Typeflag == tar.TypeReg {
			_, _ = w.Write(body)
		}
	}
	w.Close()
	data.Write(make([]byte, 4096)) // a disk is longer than the archive on it
	if err := os.WriteFile(path, data.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestUnpackPayloadReplacesTheOldOne(t *testing.T) {
	disk, dir := filepath.Join(t.TempDir(), "disk"), filepath.Join(t.TempDir(), "payload")
	writeTar(t, disk, tar.Header{Name: "old", Typeflag: tar.TypeReg, Mode: 0o644})
	if n, err := unpackPayload(disk, dir); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	writeTar(t, disk, tar.Header{Name: "./ssh/", Typeflag: tar.TypeDir, Mode: 0o755},
		tar.Header{Name: "./ssh/key", Typeflag: tar.TypeReg, Mode: 0o600},
		tar.Header{Name: "a/b", Typeflag: tar.TypeReg, Mode: 0o666})
	if n, err := unpackPayload(disk, dir); err != nil || n != 2 {
		t.Fatal(n, err)
	}
	if _, err := os.Stat(dir + "/old"); !os.IsNotExist(err) {
		t.Error("a file of the old payload is still there")
	}
	for path, mode := range map[string]os.FileMode{"": 0o700, "/ssh/key": 0o600, "/a/b": 0o666} {
		if info, err := os.Stat(dir + path); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%q: %v %v", path, info, err)
		}
	}
	if _, err := os.Stat(dir + ".new"); !os.IsNotExist(err) {
		t.Error("the scratch directory is still there")
	}
}

func TestUnpackPayloadKeepsTheOldOneWhenTheNewIsBad(t *testing.T) {
	disk, dir := filepath.Join(t.TempDir(), "disk"), filepath.Join(t.TempDir(), "payload")
	writeTar(t, disk, tar.Header{Name: "good", Typeflag: tar.TypeReg, Mode: 0o644})
	if _, err := unpackPayload(disk, dir); err != nil {
		t.Fatal(err)
	}
	for name, entry := range map[string]tar.Header{
		"outside": {Name: "../x", Typeflag: tar.TypeReg}, "absolute": {Name: "/x", Typeflag: tar.TypeReg},
		"link": {Name: "l", Linkname: "/etc", Typeflag: tar.TypeSymlink}, "device": {Name: "d", Typeflag: tar.TypeChar},
	} {
		writeTar(t, disk, tar.Header{Name: "first", Typeflag: tar.TypeReg}, entry)
		if _, err := unpackPayload(disk, dir); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	for _, content := range [][]byte{nil, make([]byte, 4096), bytes.Repeat([]byte("no tar"), 1000)} {
		_ = os.WriteFile(disk, content, 0o600)
		if _, err := unpackPayload(disk, dir); err == nil {
			t.Error("a disk without an archive was taken")
		}
	}
	if _, err := os.Stat(dir + "/good"); err != nil {
		t.Error(err)
	}
}

func TestFindPortAndDisk(t *testing.T) {
	root := t.TempDir()
	for dir, name := range map[string]string{"vport1p1": "gw.control\n", "vport1p2": "gw.stdio"} {
		_ = os.MkdirAll(filepath.Join(root, dir), 0o755)
		_ = os.WriteFile(filepath.Join(root, dir, "name"), []byte(name), 0o644)
		_ = os.WriteFile(filepath.Join(root, dir, "serial"), []byte(name), 0o644)
	}
	if got, err := findPort(root, "gw.control"); err != nil || got != "/dev/vport1p1" {
		t.Error(got, err)
	}
	if got, err := findDisk(root, "gw.stdio"); err != nil || got != "/dev/vport1p2" {
		t.Error(got, err)
	}
	if _, err := findPort(root, "gw"); err == nil {
		t.Error("found a port that is not there")
	}
}

func TestReadFrameRefusesALongFrame(t *testing.T) {
	header := binary.BigEndian.AppendUint32([]byte{0}, maxBody+1)
	if _, err := readFrame(bytes.NewReader(header)); err == nil {
		t.Error("taken")
	}
}

func TestThawTakesTheWordsItKnows(t *testing.T) {
	var got []string
	cuts := 0
	h := &requestHandler{
		cut:  func() error { cuts++; return nil },
		thaw: func(words ...string) error { got = words; return nil },
	}
	if reply := h.answer("r1 thaw adopt renew"); reply != "= r1 ok" {
		t.Fatalf("reply %q", reply)
	}
	if strings.Join(got, " ") != "adopt renew" || cuts != 1 {
		t.Fatalf("words %q, %d cuts", got, cuts)
	}
	got = nil
	if reply := h.answer("r4 thaw"); reply != "= r4 ok" || got != nil || cuts != 2 {
		t.Fatalf("reply %q, words %q, %d cuts", reply, got, cuts)
	}
	if reply := h.answer("r2 thaw; reboot"); !strings.HasPrefix(reply, "= r2 error") {
		t.Fatalf("reply %q", reply)
	}
	if reply := h.answer("r3 thaw $(reboot)"); !strings.HasPrefix(reply, "= r3 error") {
		t.Fatalf("reply %q", reply)
	}
}
