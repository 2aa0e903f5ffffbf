//go:build linux

package main

import (
	"bytes"
	"crypto/md5"
	"encoding/binary"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// guestRun is one runStdio with a host on the other end of a socket pair.
type guestRun struct {
	t       *testing.T
	host    net.Conn
	writer  *frameWriter
	done    chan error
	out     bytes.Buffer
	err     bytes.Buffer
	payload string
	closed  atomic.Bool
}

func startProgram(t *testing.T, env string, argv ...string) *guestRun {
	t.Helper()
	payload := t.TempDir()
	_ = os.MkdirAll(filepath.Join(payload, "exec"), 0o700)
	_ = os.WriteFile(filepath.Join(payload, "exec/argv"), []byte(strings.Join(argv, "\x00")), 0o600)
	if env != "" {
		_ = os.WriteFile(filepath.Join(payload, "exec/env"), []byte(env), 0o600)
	}
	_ = os.WriteFile(filepath.Join(payload, "exec/cwd"), []byte(payload), 0o600)
	host, guest := net.Pipe()
	r := &guestRun{t: t, host: host, writer: &frameWriter{to: host}, done: make(chan error, 1), payload: payload}
	go func() {
		r.done <- runStdio(guest, func() bool { return !r.closed.Load() }, payload, 50*time.Millisecond)
	}()
	t.Cleanup(func() { host.Close(); guest.Close() })
	return r
}

// finish reads frames until the exit frame and returns the code.
func (r *guestRun) finish() int {
	r.t.Helper()
	_ = r.host.SetReadDeadline(time.Now().Add(20 * time.Second))
	for first := true; ; first = false {
		f, err := readFrame(r.host)
		if err != nil {
			r.t.Fatal(err)
		}
		if first != (f.kind == frameReady) {
			r.t.Fatalf("frame of type %d", f.kind)
		}
		switch f.kind {
		case frameStdout:
			r.out.Write(f.body)
		case frameStderr:
			r.err.Write(f.body)
		case frameExit:
			return int(int32(binary.BigEndian.Uint32(f.body)))
		}
	}
}

func TestStdioPassesAllThrough(t *testing.T) {
	r := startProgram(t, "A=1 2\x00B=x\ny\x00", "sh", "-c", `cat; echo "$A|$B|$HOME|$1" >&2; exit 7`, "sh", " a  'b\n")
	data := bytes.Repeat([]byte("0123456789abcdef\x00\xff"), 100_000)
	go func() {
		for rest := data; len(rest) > 0; {
			n := min(len(rest), 50_000)
			_ = r.writer.write(frameStdin, rest[:n])
			rest = rest[n:]
		}
		_ = r.writer.write(frameStdin, nil)
	}()
	if code := r.finish(); code != 7 {
		t.Errorf("code %d", code)
	}
	if md5.Sum(r.out.Bytes()) != md5.Sum(data) {
		t.Errorf("stdout has %d bytes", r.out.Len())
	}
	if got := r.err.String(); got != "1 2|x\ny|/root| a  'b\n\n" {
		t.Errorf("stderr %q", got)
	}
}

func TestStdioSaysWhyAProgramDoesNotRun(t *testing.T) {
	for _, c := range []struct {
		argv, env, text string
		code            int
	}{
		{"/nope", "", "gateway: /nope: not found\n", 127},
		{"nope", "", "gateway: nope: not found\n", 127},
		{"sh", "PATH=/nowhere", "gateway: sh: not found\n", 127},
		{"/etc/passwd", "", "gateway: /etc/passwd: not executable\n", 126},
		{"/etc", "", "gateway: /etc: not executable\n", 126},
		{"/etc/passwd/x", "", "gateway: /etc/passwd/x: not found\n", 127},
		{"", "", "gateway: the payload names no program\n", 126},
	} {
		r := startProgram(t, c.env, c.argv)
		if code := r.finish(); code != c.code || r.err.String() != c.text {
			t.Errorf("%q: %d %q", c.argv, code, r.err.String())
		}
	}
}

func TestStdioLooksUpRelativeToTheProgramsDirectory(t *testing.T) {
	r := startProgram(t, "", "./hello")
	_ = os.WriteFile(filepath.Join(r.payload, "hello"), []byte("#!/bin/sh\npwd\n"), 0o755)
	if code := r.finish(); code != 0 || strings.TrimSpace(r.out.String()) != r.payload {
		t.Errorf("%d %q %q", code, r.out.String(), r.err.String())
	}
}

func TestStdioPassesSignals(t *testing.T) {
	r := startProgram(t, "", "sh", "-c", `trap 'echo got; exit 3' TERM; echo up; while :; do sleep 0.05; done`)
	r.waitFor("up")
	_ = r.writer.write(frameSignal, []byte{15})
	if code := r.finishRest(); code != 3 || !strings.HasSuffix(r.out.String(), "got\n") {
		t.Errorf("%d %q", code, r.out.String())
	}
	r = startProgram(t, "", "sh", "-c", "echo up; exec sleep 60")
	r.waitFor("up")
	_ = r.writer.write(frameSignal, []byte{9})
	if code := r.finishRest(); code != 137 {
		t.Errorf("code %d", code)
	}
}

// waitFor reads frames until stdout holds the text.
func (r *guestRun) waitFor(text string) {
	for !strings.Contains(r.out.String(), text) {
		f, err := readFrame(r.host)
		if err != nil {
			r.t.Fatal(err)
		}
		if f.kind == frameStdout {
			r.out.Write(f.body)
		}
	}
}

func (r *guestRun) finishRest() int {
	for {
		f, err := readFrame(r.host)
		if err != nil {
			r.t.Fatal(err)
		}
		if f.kind == frameStdout {
			r.out.Write(f.body)
		}
		if f.kind == frameExit {
			return int(int32(binary.BigEndian.Uint32(f.body)))
		}
	}
}

func TestStdioDrainsWhatWasWrittenAndLeavesOrphansAlone(t *testing.T) {
	r := startProgram(t, "", "sh", "-c", `head -c 60000 /dev/zero; (sleep 30; echo late) & exit 5`)
	start := time.Now()
	if code := r.finish(); code != 5 || r.out.Len() != 60000 {
		t.Errorf("code %d, %d bytes", code, r.out.Len())
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
}

func TestStdioSurvivesAProgramThatDoesNotRead(t *testing.T) {
	r := startProgram(t, "", "sh", "-c", "exec <&-; sleep 0.1; echo done")
	go func() {
		for range 40 {
			if r.writer.write(frameStdin, make([]byte, 30_000)) != nil {
				return
			}
		}
	}()
	if code := r.finish(); code != 0 || r.out.String() != "done\n" {
		t.Errorf("%d %q", code, r.out.String())
	}
}

func TestStdioEndsWhenTheHostConfirmsOrCloses(t *testing.T) {
	for round := range 2 {
		confirmRound(t, round)
	}
}

func confirmRound(t *testing.T, round int) {
	t.Helper()
	r := startProgram(t, "", "true")
	go func() { _ = r.writer.write(frameReady, nil) }()
	if code := r.finish(); code != 0 {
		t.Fatalf("code %d", code)
	}
	select {
	case <-r.done:
		t.Fatal("ended before the host that confirms has confirmed")
	case <-time.After(200 * time.Millisecond):
	}
	if round == 0 {
		_ = r.writer.write(frameExit, nil)
	} else {
		r.closed.Store(true)
	}
	select {
	case err := <-r.done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("did not end")
	}
}

func TestStdioEndsWithAHostThatDoesNotConfirm(t *testing.T) {
	r := startProgram(t, "", "true")
	r.finish()
	select {
	case <-r.done:
	case <-time.After(5 * time.Second):
		t.Fatal("did not end")
	}
}

func TestProgramsStdinIsABlockingPipe(t *testing.T) {
	r := startProgram(t, "", "sh", "-c", "grep flags /proc/self/fdinfo/0 /proc/self/fdinfo/1")
	r.finish()
	for _, line := range strings.Split(strings.TrimSpace(r.out.String()), "\n") {
		fields := strings.Fields(line)
		if flags := fields[len(fields)-1]; strings.Contains(flags, "4000") {
			t.Errorf("the program has a non-blocking descriptor: %q", line)
		}
	}
}

func TestMergeEnv(t *testing.T) {
	got := strings.Join(mergeEnv([]string{"PATH=a", "HOME=/root"}, []string{"PATH=b", "=x", "Y"}), " ")
	if got != "PATH=b HOME=/root" {
		t.Error(got)
	}
}
