package manifests

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestScanLeavesOutSkippedDisabledAndForeignFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"b.yaml", "a.json", "sub/c.yml", "skip.yaml", "skip.yaml.skip", "coredns.yaml", "notes.txt", ".hidden.yaml"} {
		write(t, dir, name, "{}")
	}
	files, err := Scan(dir, []string{"coredns"})
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range files {
		names = append(names, f.Name)
	}
	if len(names) != 3 || names[0] != "a.json" || names[1] != "b.yaml" || names[2] != "sub/c.yml" {
		t.Errorf("got %q", names)
	}
	if !Skipped(dir, "skip.yaml") || Skipped(dir, "b.yaml") {
		t.Error("Skipped is wrong")
	}
}

func TestScanOfAMissingDirectoryIsEmpty(t *testing.T) {
	if files, err := Scan(filepath.Join(t.TempDir(), "none"), nil); err != nil || len(files) != 0 {
		t.Errorf("got %v, %v", files, err)
	}
}

const text = `# a comment
---
apiVersion: v1
kind: ConfigMap
metadata: {name: one, namespace: a}
data:
  text: |
    --- not a separator
    x: ---
--- # the next
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: things.example.com}
---
---
apiVersion: v1
kind: List
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: a}}
- {apiVersion: example.com/v1, kind: Thing, metadata: {name: t, namespace: a}}
`

func TestParseSplitsDocumentsAndFlattensLists(t *testing.T) {
	objects, err := Parse(File{Name: "x.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"Namespace", "CustomResourceDefinition", "ConfigMap", "Thing"}
	for i, o := range Order(objects) {
		if o.Kind != want[i] {
			t.Errorf("%d: got %s, want %s", i, o.Kind, want[i])
		}
	}
	if got := objects[0].String(); got != "v1 ConfigMap a/one" {
		t.Errorf("got %q", got)
	}
}

func TestParseNamesTheBrokenDocument(t *testing.T) {
	for name, data := range map[string]string{
		"no kind": "apiVersion: v1\nmetadata: {name: x}", "no name": "apiVersion: v1\nkind: Pod", "no yaml": "a: [",
	} {
		if _, err := Parse(File{Name: "x.yaml", Data: []byte(data)}); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestPruneDeletesWhatNothingNamesAnyMore(t *testing.T) {
	ns := Ref{"v1", "Namespace", "", "a"}
	moved := Ref{"v1", "ConfigMap", "a", "moved"}
	gone := Ref{"v1", "ConfigMap", "a", "gone"}
	beta := Ref{"apps/v1beta1", "Deployment", "a", "d"}
	stable := Ref{"apps/v1", "Deployment", "a", "d"}
	record := Record{"x.yaml": {ns, moved, gone, beta}, "y.yaml": {moved}}
	got := Prune(record, "x.yaml", []Ref{ns, stable})
	if len(got) != 1 || got[0] != gone {
		t.Errorf("an edition without gone: got %v", got)
	}
	got = Prune(record, "x.yaml", nil)
	if len(got) != 3 || got[0] != beta || got[2] != ns {
		t.Errorf("the file deleted: got %v", got)
	}
}

func TestLoadRecordReadsWhatEncodeWroteAndForgivesTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "r.json")
	if got := LoadRecord(path); len(got) != 0 {
		t.Errorf("missing: got %v", got)
	}
	data, err := Record{"x": {{"v1", "Namespace", "", "a"}}}.Encode()
	if err != nil {
		t.Fatal(err)
	}
	os.WriteFile(path, data, 0o600)
	if got := LoadRecord(path); got["x"][0].Name != "a" {
		t.Errorf("got %v", got)
	}
	for _, text := range []string{string(data[:5]), "null"} {
		os.WriteFile(path, []byte(text), 0o600)
		if got := LoadRecord(path); got == nil || len(got) != 0 {
			t.Errorf("%q: got %v", text, got)
		}
	}
}

func TestUnsettledWaitsForAFileToStandStill(t *testing.T) {
	now := time.Now()
	if got := Unsettled(now.Add(-Settled/2), now); got <= 0 || got > Settled {
		t.Errorf("just written: got %s", got)
	}
	if got := Unsettled(now.Add(-time.Hour), now); got > 0 {
		t.Errorf("old: got %s", got)
	}
	if got := Unsettled(now.Add(time.Hour), now); got > 0 {
		t.Errorf("from the future: got %s", got)
	}
}

func TestParseReadsJSONAsJSONAndSplitsAtAnySeparator(t *testing.T) {
	read := func(text string) []Object {
		t.Helper()
		objects, err := Parse(File{Name: "m.yaml", Data: []byte(text)})
		if err != nil {
			t.Fatal(err)
		}
		return objects
	}
	// Escapes that YAML does not have: surrogates, and a slash.
	objects := read(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"\ud83d\ude00","s":"a\/b"}}`)
	data := objects[0].Fields["data"].(map[string]any)
	if data["k"] != "\U0001F600" || data["s"] != "a/b" {
		t.Errorf("got %v", data)
	}
	one := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
	if got := read(one + "---\t# second\n" + one + "--- # third\n" + one); len(got) != 3 {
		t.Errorf("got %d objects instead of 3", len(got))
	}
	whole := read("apiVersion: v1\nkind: X\nmetadata: {name: a}\nspec: {big: 9007199254740993, flow: {a: 1}}\n")
	if got := whole[0].Fields["spec"].(map[string]any)["big"]; got != int64(9007199254740993) {
		t.Errorf("a large integer became %v", got)
	}
}
