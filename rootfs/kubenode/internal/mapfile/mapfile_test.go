package mapfile

import (
	"os"
	"path/filepath"
	"testing"
)

func TestLoadReadsWhatEncodeWroteAndForgivesTheRest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "map")
	if got := Load[int](path); got == nil || len(got) != 0 {
		t.Errorf("a missing file gave %v", got)
	}
	data, err := Encode(map[string]int{"a": 1})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]int{string(data): 1, "": 0, "null": 0, "{": 0, `{"a":"x"}`: 0, "[]": 0} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := Load[int](path); got == nil || got["a"] != want {
			t.Errorf("%q gave %v", text, got)
		}
	}
}
