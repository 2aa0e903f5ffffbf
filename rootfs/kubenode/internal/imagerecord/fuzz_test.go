package imagerecord

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// FuzzLoad: any file is a record or an empty one, in which archives can be noted, and what is written is read again.
func FuzzLoad(f *testing.F) {
	f.Add([]byte(`{"/a.tar":{"target":"/b.tar","sizeBytes":3,"modTimeNs":7,"images":["pause:1"]}}`))
	f.Add([]byte(`{"/a.tar":null,"/b.tar":{"images":[null]}}`))
	f.Add([]byte("null"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "record")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		record := Load(path)
		for archive, entry := range record {
			if record.Holds(archive, entry, map[string]bool{}) {
				t.Fatalf("%s is held without an image: %+v", archive, entry)
			}
		}
		record["/new.tar"] = Entry{Images: []string{"a"}}
		again, err := record.Encode()
		if err != nil || json.Unmarshal(again, &Record{}) != nil {
			t.Fatalf("%q: %v", again, err)
		}
	})
}
