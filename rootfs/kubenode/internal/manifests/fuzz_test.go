package manifests

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// FuzzParse: each object of a manifest has what names it, and Order only sorts.
func FuzzParse(f *testing.F) {
	for _, data := range []string{
		text, `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"s":"a\/b"}}`,
		"apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: List, items: [1]}]\n", "a: &a [*a, *a]", "- ? [", "--- \n---\t\n",
	} {
		f.Add([]byte(data))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, err := Parse(File{Name: "x.yaml", Data: data})
		if err != nil {
			return
		}
		for _, object := range objects {
			if object.APIVersion == "" || object.Kind == "" || object.Name == "" || object.Fields == nil {
				t.Fatalf("%+v", object)
			}
			if _, err := json.Marshal(object.Fields); err != nil {
				t.Fatalf("%v cannot be sent: %v", object, err)
			}
		}
		if ordered := Order(objects); len(ordered) != len(objects) {
			t.Fatalf("%d objects became %d", len(objects), len(ordered))
		}
	})
}

// FuzzLoadRecord: any file is a record or an empty one, and what is written is read again.
func FuzzLoadRecord(f *testing.F) {
	f.Add([]byte(`{"x.yaml":[{"apiVersion":"v1","kind":"Namespace","name":"a"}]}`))
	f.Add([]byte(`{"x":null,"y":[null]}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "record")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		record := LoadRecord(path)
		if record == nil {
			t.Fatal("nothing can be noted in it")
		}
		for name := range record {
			Prune(record, name, nil)
		}
		again, err := record.Encode()
		if err != nil || json.Unmarshal(again, &Record{}) != nil {
			t.Fatalf("%q: %v", again, err)
		}
	})
}
