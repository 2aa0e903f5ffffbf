// Package imagerecord remembers which image archives containerd already holds, so that a warm start reads none of them.
package imagerecord

import (
	"cmp"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gateway.local/kubenode/internal/mapfile"
)

// Entry is what identifies an archive without reading it, and the images it brought.
type Entry struct {
	Target    string   `json:"target"` // the file behind a symlink
	SizeBytes int64    `json:"sizeBytes"`
	ModTime   int64    `json:"modTimeNs"`
	Images    []string `json:"images"`
}

// Record maps an archive's path to what was imported from it.
type Record map[string]Entry

// Load reads a record; a missing or broken one is empty.
func Load(path string) Record { return mapfile.Load[Entry](path) }

// Encode is the record's form on disk.
func (r Record) Encode() ([]byte, error) { return mapfile.Encode(r) }

// Archives lists the image archives of dir (plain or compressed tars, symlinks followed), the smallest first.
func Archives(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	var out []string
	for _, entry := range entries {
		for _, suffix := range []string{".tar", ".tar.gz", ".tgz", ".tar.zst"} {
			if strings.HasSuffix(entry.Name(), suffix) && !strings.HasPrefix(entry.Name(), ".") {
				out = append(out, filepath.Join(dir, entry.Name()))
				break
			}
		}
	}
	// Small ones first: pods wait for pause before anything else, and an emulated guest takes seconds for a large one.
	sizes := map[string]int64{}
	for _, path := range out {
		if info, err := os.Stat(path); err == nil {
			sizes[path] = info.Size()
		}
	}
	slices.SortStableFunc(out, func(a, b string) int { return cmp.Compare(sizes[a], sizes[b]) })
	return out, err
}

// Describe looks at an archive without reading it; a dangling symlink is fs.ErrNotExist.
func Describe(path string) (Entry, error) {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return Entry{}, err
	}
	info, err := os.Stat(target)
	if err != nil {
		return Entry{}, err
	}
	if !info.Mode().IsRegular() {
		return Entry{}, &fs.PathError{Op: "import", Path: path, Err: fs.ErrInvalid}
	}
	return Entry{Target: target, SizeBytes: info.Size(), ModTime: info.ModTime().UnixNano()}, nil
}

// Holds tells whether path was imported as it is now and all its images are still among present.
func (r Record) Holds(path string, now Entry, present map[string]bool) bool {
	was, ok := r[path]
	if !ok || was.Target != now.Target || was.SizeBytes != now.SizeBytes || was.ModTime != now.ModTime || len(was.Images) == 0 {
		return false
	}
	for _, image := range was.Images {
		if !present[image] {
			return false
		}
	}
	return true
}
