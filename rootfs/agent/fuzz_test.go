//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// FuzzReadFrame: whatever the host's side sends, frames are bounded, and written again they are the same bytes.
func FuzzReadFrame(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x00\x03abc\x04\x00\x00\x00\x01\x0f\x00\x00\x00\x00\x00"))
	f.Add([]byte("\x06\x00\x00\x00\x00\x03\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x00\x10\x00\x00"))
	f.Add([]byte("\x00\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		from, again := bytes.NewReader(data), &bytes.Buffer{}
		out := &frameWriter{to: again}
		for {
			one, err := readFrame(from)
			if len(one.body) > maxBody {
				t.Fatalf("a body of %d bytes", len(one.body))
			}
			if err != nil {
				break
			}
			if err := out.write(one.kind, one.body); err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(data, again.Bytes()) {
			t.Fatalf("read and written again it is %q", again.Bytes())
		}
	})
}

// FuzzLineBuffer: how a stream is cut into pieces does not change its lines; they are bounded, and nothing but line ends
// is lost.
func FuzzLineBuffer(f *testing.F) {
	long := bytes.Repeat([]byte("x"), maxLine-1)
	f.Add([]byte("a\r\n\nb\n0.10 mark key=value\n! stage: why\n"), uint16(3))
	f.Add(append(slices.Clone(long), '\n', 'y', '\n'), uint16(1))
	f.Add(append(append(slices.Clone(long), "longer"...), '\n'), uint16(5000))
	f.Add(bytes.Repeat([]byte("\r"), 3*maxLine), uint16(maxLine))
	f.Fuzz(func(t *testing.T, data []byte, size uint16) {
		var whole, pieces lineBuffer
		lines := whole.add(data)
		var again []string
		for piece := range slices.Chunk(data, int(size)+1) {
			again = append(again, pieces.add(piece)...)
		}
		if !slices.Equal(lines, again) || !bytes.Equal(whole.rest, pieces.rest) {
			t.Fatalf("%q in pieces of %d bytes is %q, and at once %q", data, int(size)+1, again, lines)
		}
		if len(whole.rest) >= maxLine {
			t.Fatalf("it keeps %d bytes", len(whole.rest))
		}
		ends := strings.NewReplacer("\n", "", "\r", "")
		for _, line := range lines {
			if len(line) == 0 || len(line) >= maxLine || strings.Contains(line, "\n") {
				t.Fatalf("a line of %d bytes", len(line))
			}
		}
		kept := ends.Replace(strings.Join(lines, "") + string(whole.rest))
		if kept != ends.Replace(string(data)) {
			t.Fatalf("%q became %q", data, kept)
		}
	})
}

// FuzzAnswer: each request has one answer of one line, whatever a deed says.
func FuzzAnswer(f *testing.F) {
	for _, line := range []string{
		"r1 ping", "r2 clock 17.5", "r3 reseed 00", "r4 payload", "r5 token-key", "r6 thaw adopt renew", "r7 poweroff", "r8 freeze", " ", "",
	} {
		f.Add(line, "two\nlines")
		f.Add(line, "")
	}
	f.Fuzz(func(t *testing.T, line, words string) {
		if strings.Contains(line, "\n") {
			t.Skip() // the stream was cut into lines before
		}
		var failed error
		if words != "" {
			failed = errors.New(words)
		}
		h := &requestHandler{
			setClock: func(text string) (time.Duration, error) { _, err := parseClock(text); return 0, err },
			reseed:   func(string) error { return failed },
			payload:  func() (int, error) { return 3, failed },
			tokenKey: func() error { return failed },
			cut:      func() error { return failed },
			thaw:     func(...string) error { return failed },
			poweroff: func() error { return failed },
			freeze:   func() (bool, error) { return failed == nil, failed },
			release:  func() error { return failed },
		}
		id, _, _ := strings.Cut(line, " ")
		got := h.answer(line)
		if !strings.HasPrefix(got, "= "+id) || strings.Contains(got, "\n") {
			t.Fatalf("%q was answered by %q", line, got)
		}
	})
}

// FuzzParseClock: what is taken is that time, to the nanosecond.
func FuzzParseClock(f *testing.F) {
	for _, text := range []string{"1790000000.123456789", "17", "17.", "0.000000001", "1099511627775", "-1", "1e9", " 5 "} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := parseClock(text)
		if err != nil {
			return
		}
		whole, fraction, _ := strings.Cut(strings.TrimSpace(text), ".")
		want := strings.TrimLeft(whole, "0") + "." + (fraction + "000000000")[:9]
		if found := fmt.Sprintf("%d.%09d", got.Sec, got.Nsec); strings.TrimPrefix(found, "0") != strings.TrimPrefix(want, "0") {
			t.Fatalf("%q became %s", text, found)
		}
	})
}

// FuzzUnpack: a payload writes below its folder only, files and directories only, and no more than the archive holds.
func FuzzUnpack(f *testing.F) {
	for _, entries := range [][]tar.Header{
		{{Name: "exec/argv", Typeflag: tar.TypeReg, Mode: 0o644}, {Name: "pki/", Typeflag: tar.TypeDir, Mode: 0o700}},
		{{Name: "a", Typeflag: tar.TypeReg}, {Name: "a/b", Typeflag: tar.TypeReg}, {Name: "./a", Typeflag: tar.TypeReg}},
		{{Name: "../x", Typeflag: tar.TypeReg}},
		{{Name: ".", Typeflag: tar.TypeReg}},
		{{Name: "l", Linkname: "/etc", Typeflag: tar.TypeSymlink}, {Name: "l/x", Typeflag: tar.TypeReg}},
	} {
		f.Add(archive(f, entries))
	}
	f.Add(sparse(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		top := t.TempDir()
		root := filepath.Join(top, "payload")
		_, err := unpack(bytes.NewReader(data), root)
		if around, _ := os.ReadDir(top); len(around) > 1 {
			t.Fatalf("beside the payload there are %v", around)
		}
		if info, statErr := os.Lstat(root); statErr != nil || !info.IsDir() {
			t.Fatalf("the payload's folder is %v (%v), after %v", info, statErr, err)
		}
		total := int64(0)
		walked := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := entry.Info()
			if err == nil && !info.IsDir() && !info.Mode().IsRegular() {
				t.Errorf("%s is %v", path, info.Mode())
			}
			if err == nil && info.Mode().IsRegular() {
				total += info.Size()
			}
			return err
		})
		if walked != nil {
			t.Fatal(walked)
		}
		if total > int64(len(data)) {
			t.Fatalf("an archive of %d bytes became files of %d", len(data), total)
		}
	})
}

// archive makes a tar of these entries.
func archive(f *testing.F, entries []tar.Header) []byte {
	f.Helper()
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for _, entry := range entries {
		if entry.Typeflag == tar.TypeReg {
			entry.Size = 4
		}
		if err := w.WriteHeader(&entry); err != nil {
			f.Fatal(err)
		}
		if entry.Typeflag == tar.TypeReg {
			_, _ = w.Write([]byte("text"))
		}
	}
	w.Close()
	return data.Bytes()
}

// sparse is an archive of 2.5 KiB with a file of 1 TiB, nearly all of it holes.
func sparse(f *testing.F) []byte {
	f.Helper()
	var records string
	for _, pair := range [][2]string{
		{"GNU.sparse.major", "1"}, {"GNU.sparse.minor", "0"}, {"GNU.sparse.name", "large"},
		{"GNU.sparse.realsize", fmt.Sprint(int64(1) << 40)},
	} {
		size := len(pair[0]) + len(pair[1]) + 5
		records += fmt.Sprintf("%d %s=%s\n", size, pair[0], pair[1])
	}
	var data bytes.Buffer
	w := tar.NewWriter(&data)
	for _, one := range [][2]string{{"records", records}, {"large", "1\n0\n4\n" + strings.Repeat("\x00", 506) + "text"}} {
		if err := w.WriteHeader(&tar.Header{Name: one[0], Size: int64(len(one[1])), Typeflag: tar.TypeReg}); err != nil {
			f.Fatal(err)
		}
		_, _ = w.Write([]byte(one[1]))
	}
	w.Close()
	// The writer makes no such headers: the first entry becomes the second one's by its type.
	header := data.Bytes()[:512]
	header[156] = tar.TypeXHeader
	copy(header[148:156], "        ")
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	copy(header[148:156], fmt.Sprintf("%06o\x00 ", sum))
	return data.Bytes()
}

// FuzzProgram: a payload's exec folder gives a program that the kernel can be asked for, or an error.
func FuzzProgram(f *testing.F) {
	f.Add([]byte("/bin/true\x00-x\x00"), []byte("A=1\x00PATH=/x\x00bad\x00=no\x00"), []byte("/tmp\n"))
	f.Add([]byte("true"), []byte(nil), []byte(nil))
	f.Add([]byte("\x00"), []byte("\x00"), []byte("\x00"))
	f.Add([]byte("a\x00\x00b"), []byte("=\x00A\x00"), []byte("\x00x"))
	f.Fuzz(func(t *testing.T, argv, env, cwd []byte) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "exec"), 0o700); err != nil {
			t.Fatal(err)
		}
		for name, data := range map[string][]byte{"argv": argv, "env": env, "cwd": cwd} {
			if err := os.WriteFile(filepath.Join(dir, "exec", name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		p, err := loadProgram(dir)
		if err != nil {
			return
		}
		if len(p.argv) == 0 || p.argv[0] == "" || p.cwd == "" {
			t.Fatalf("%+v", p)
		}
		if joined := strings.Join(p.argv, "\x00"); joined != strings.TrimSuffix(string(argv), "\x00") {
			t.Fatalf("the words %q became %q", argv, joined)
		}
		for _, variable := range p.env {
			if name, _, ok := strings.Cut(variable, "="); !ok || name == "" || strings.Contains(variable, "\x00") {
				t.Fatalf("the variable %q", variable)
			}
		}
		if getenv(p.env, "PATH") == "" && !bytes.Contains(env, []byte("PATH=")) {
			t.Fatalf("no PATH in %q", p.env)
		}
		if _, err := syscall.SlicePtrFromStrings(p.argv); err != nil {
			t.Fatalf("the kernel cannot be asked for %q: %v", p.argv, err)
		}
	})
}
