package manifests

import (
	"bytes"
	"encoding/json"
	"os"
	"testing"

	"sigs.k8s.io/yaml"
)

// The table is the host's, which has a reader of its own and must not find another meaning than the cluster.
const yamlCases = "../../../../bootstrap/yaml/kube_yaml_cases.json"

func TestYAMLIsReadAsTheHostReadsIt(t *testing.T) {
	data, err := os.ReadFile(yamlCases)
	if err != nil {
		t.Fatal(err)
	}
	var cases [][2]*string
	if err := json.Unmarshal(data, &cases); err != nil {
		t.Fatal(err)
	}
	for _, one := range cases {
		text, wanted := *one[0], one[1]
		got, err := yaml.YAMLToJSON([]byte(text))
		if wanted == nil {
			if err == nil {
				t.Errorf("%q is read as %s, and the host refuses it", text, got)
			}
			continue
		}
		if err != nil || !bytes.Equal(got, []byte(*wanted)) {
			t.Errorf("%q is read as %s (%v), and by the host as %s", text, got, err, *wanted)
		}
		// What the host sends is JSON: it has to mean the same once more.
		again, err := yaml.YAMLToJSON([]byte(*wanted))
		if err != nil || !bytes.Equal(again, []byte(*wanted)) {
			t.Errorf("%s is read as %s (%v)", *wanted, again, err)
		}
	}
}
