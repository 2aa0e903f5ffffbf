// Package manifests decides what auto-deploy does: which files count, which objects they hold,
// and what must be deleted because nothing names it any more. It talks to no cluster.
package manifests

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	utiljson "k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	"gateway.local/kubenode/internal/mapfile"
)

// Ref names one object of the cluster.
type Ref struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Namespace  string `json:"namespace,omitempty"`
	Name       string `json:"name"`
}

// String is how logs name the object.
func (r Ref) String() string {
	name := r.Name
	if r.Namespace != "" {
		name = r.Namespace + "/" + r.Name
	}
	return fmt.Sprintf("%s %s %s", r.APIVersion, r.Kind, name)
}

// sameObject compares identities but for the API version, which may move on between two editions of a file.
func (r Ref) sameObject(o Ref) bool {
	return group(r.APIVersion) == group(o.APIVersion) && r.Kind == o.Kind && r.Namespace == o.Namespace && r.Name == o.Name
}

func group(apiVersion string) string {
	before, _, found := strings.Cut(apiVersion, "/")
	if !found {
		return ""
	}
	return before
}

// Object is one document of a manifest.
type Object struct {
	Ref
	Fields map[string]any
}

// File is a manifest as read from disk.
type File struct {
	Name   string // relative to the manifests directory
	Digest string
	Data   []byte
	// Changed is when the file was last written.
	Changed time.Time
}

// Record maps a manifest's name to what it last brought into the cluster.
type Record map[string][]Ref

// Scan reads the manifests of dir, sorted by name. A file is left out when NAME.skip stands beside it or when
// its base name is a disabled component, as k3s does.
func Scan(dir string, disabled []string) ([]File, error) {
	var out []File
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		base := entry.Name()
		if path != dir && strings.HasPrefix(base, ".") {
			if entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if entry.IsDir() || !isManifest(base) || slices.Contains(disabled, strings.TrimSuffix(base, filepath.Ext(base))) {
			return nil
		}
		if _, err := os.Stat(path + ".skip"); err == nil {
			return nil
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		out = append(out, File{Name: name, Digest: hex.EncodeToString(sum[:]), Data: data, Changed: info.ModTime()})
		return nil
	})
	return out, err
}

// Settled is how long a file must stand still, or be gone, before objects are deleted for it: a file that is
// being written over is empty or short for a moment.
const Settled = 2 * time.Second

// Unsettled gives the time until a change made at changed may delete objects; zero or less means now. A change
// in the future, which a corrected clock leaves behind, counts as settled.
func Unsettled(changed, now time.Time) time.Duration {
	if changed.After(now) {
		return 0
	}
	return Settled - now.Sub(changed)
}

// Skipped tells whether NAME.skip stands beside a manifest: such a file is left alone, not pruned.
func Skipped(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name+".skip"))
	return err == nil
}

func isManifest(base string) bool {
	return slices.Contains([]string{".yaml", ".yml", ".json"}, filepath.Ext(base))
}

// Parse reads every document of a manifest; lists are flattened, empty documents are dropped.
func Parse(f File) ([]Object, error) {
	var out []Object
	for i, document := range split(f.Data) {
		fields, err := decode(document)
		if err != nil {
			return nil, fmt.Errorf("%s: document %d: %w", f.Name, i+1, err)
		}
		if len(fields) == 0 {
			continue
		}
		objects, err := flatten(fields)
		if err != nil {
			return nil, fmt.Errorf("%s: document %d: %w", f.Name, i+1, err)
		}
		out = append(out, objects...)
	}
	return out, nil
}

// decode reads one document as kubectl does: JSON as JSON, since YAML has other escapes, and whole numbers with all their
// digits.
func decode(document []byte) (map[string]any, error) {
	data := document
	if !bytes.HasPrefix(bytes.TrimSpace(document), []byte("{")) || !json.Valid(document) {
		var err error
		if data, err = yaml.YAMLToJSON(document); err != nil {
			return nil, err
		}
	}
	fields := map[string]any{}
	if err := utiljson.Unmarshal(data, &fields); err != nil {
		return nil, err
	}
	return fields, nil
}

func split(data []byte) [][]byte {
	var out [][]byte
	var current []byte
	for _, line := range bytes.SplitAfter(data, []byte("\n")) {
		text := bytes.TrimRight(line, " \t\r\n")
		if bytes.Equal(text, []byte("---")) || bytes.HasPrefix(text, []byte("--- ")) || bytes.HasPrefix(text, []byte("---\t")) {
			out, current = append(out, current), nil
			continue
		}
		current = append(current, line...)
	}
	return append(out, current)
}

func flatten(fields map[string]any) ([]Object, error) {
	version, _ := fields["apiVersion"].(string)
	kind, _ := fields["kind"].(string)
	if version == "" || kind == "" {
		return nil, errors.New("apiVersion or kind is missing")
	}
	if items, ok := fields["items"].([]any); ok && strings.HasSuffix(kind, "List") {
		var out []Object
		for _, item := range items {
			inner, ok := item.(map[string]any)
			if !ok {
				return nil, fmt.Errorf("an item of the %s is no object", kind)
			}
			objects, err := flatten(inner)
			if err != nil {
				return nil, err
			}
			out = append(out, objects...)
		}
		return out, nil
	}
	metadata, _ := fields["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	namespace, _ := metadata["namespace"].(string)
	if name == "" {
		return nil, fmt.Errorf("a %s has no metadata.name", kind)
	}
	return []Object{{Ref: Ref{version, kind, namespace, name}, Fields: fields}}, nil
}

// Order puts definitions before what uses them: namespaces, then custom resource definitions, then the rest as written.
func Order(objects []Object) []Object {
	rank := func(o Object) int {
		switch {
		case o.Kind == "Namespace" && o.APIVersion == "v1":
			return 0
		case o.Kind == "CustomResourceDefinition":
			return 1
		}
		return 2
	}
	out := slices.Clone(objects)
	slices.SortStableFunc(out, func(a, b Object) int { return rank(a) - rank(b) })
	return out
}

// Prune lists what name brought and current no longer holds, except what another manifest of record names.
// The order is the reverse of applying, so that a namespace goes last.
func Prune(record Record, name string, current []Ref) []Ref {
	named := slices.Clone(current)
	for other, refs := range record {
		if other != name {
			named = append(named, refs...)
		}
	}
	var out []Ref
	for _, ref := range slices.Backward(record[name]) {
		if !slices.ContainsFunc(named, ref.sameObject) {
			out = append(out, ref)
		}
	}
	return out
}

// LoadRecord reads a record; a missing or broken one counts as empty.
func LoadRecord(path string) Record { return mapfile.Load[[]Ref](path) }

// Encode is the record's form on disk.
func (r Record) Encode() ([]byte, error) { return mapfile.Encode(r) }
