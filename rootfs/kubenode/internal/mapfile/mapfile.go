// Package mapfile reads and writes what kubenode remembers between its runs: a map in a file of JSON.
package mapfile

import (
	"encoding/json"
	"os"
)

// Load reads a map; a missing or broken file is an empty one, since what is not remembered is done again, which is
// harmless.
func Load[V any](path string) map[string]V {
	loaded := map[string]V{}
	data, err := os.ReadFile(path)
	// The text "null" makes the map nil, in which nothing can be noted.
	if err != nil || json.Unmarshal(data, &loaded) != nil || loaded == nil {
		return map[string]V{}
	}
	return loaded
}

// Encode is a map's form on disk.
func Encode[V any](entries map[string]V) ([]byte, error) {
	return json.MarshalIndent(entries, "", " ")
}
