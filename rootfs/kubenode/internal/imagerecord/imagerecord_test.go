package imagerecord

import (
	"os"
	"path/filepath"
	"testing"
)

func TestArchivesListsTarsOnlyAndFollowsLinks(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.tar", "a.tar.zst", "c.tgz", "notes.txt", ".part.tar"} {
		os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600)
	}
	os.Symlink("b.tar", filepath.Join(dir, "z.tar"))
	got, err := Archives(dir)
	if err != nil || len(got) != 4 || filepath.Base(got[0]) != "a.tar.zst" || filepath.Base(got[3]) != "z.tar" {
		t.Errorf("got %q, %v", got, err)
	}
	os.WriteFile(filepath.Join(dir, "a.tar.zst"), []byte("larger"), 0o600)
	if after, _ := Archives(dir); filepath.Base(after[3]) != "a.tar.zst" {
		t.Errorf("the largest is not last: %q", after)
	}
	entry, err := Describe(got[3])
	if err != nil || filepath.Base(entry.Target) != "b.tar" || entry.SizeBytes != 1 {
		t.Errorf("got %+v, %v", entry, err)
	}
	if _, err := Archives(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
}

func TestHoldsIsTrueOnlyForTheSameFileWithItsImagesPresent(t *testing.T) {
	now := Entry{Target: "/x.tar", SizeBytes: 3, ModTime: 7}
	was := now
	was.Images = []string{"pause:1"}
	r := Record{"/l.tar": was}
	here := map[string]bool{"pause:1": true}
	if !r.Holds("/l.tar", now, here) {
		t.Error("the same file was not recognised")
	}
	for name, changed := range map[string]Entry{
		"size": {Target: "/x.tar", SizeBytes: 4, ModTime: 7}, "time": {Target: "/x.tar", SizeBytes: 3, ModTime: 8}, "target": {Target: "/y.tar", SizeBytes: 3, ModTime: 7},
	} {
		if r.Holds("/l.tar", changed, here) {
			t.Errorf("another %s passed", name)
		}
	}
	if r.Holds("/l.tar", now, nil) || r.Holds("/other.tar", now, here) {
		t.Error("a missing image or an unknown archive passed")
	}
}

func TestLoadForgivesABrokenRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	for _, text := range []string{"{", "null"} {
		os.WriteFile(path, []byte(text), 0o600)
		if got := Load(path); got == nil || len(got) != 0 {
			t.Errorf("%s: got %v", text, got)
		}
	}
	data, _ := Record{"a": {Images: []string{"i"}}}.Encode()
	os.WriteFile(path, data, 0o600)
	if got := Load(path); len(got["a"].Images) != 1 {
		t.Errorf("got %v", got)
	}
}
