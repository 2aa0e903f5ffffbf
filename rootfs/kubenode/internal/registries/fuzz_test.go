package registries

import (
	"path/filepath"
	"testing"

	"github.com/pelletier/go-toml/v2"
)

// FuzzParse: whatever a registries.yaml says, what is made of it is TOML, in folders of certs.d itself.
func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"mirrors:\n  docker.io: {endpoint: [https://a.example/x, 'b:5000'], rewrite: {'^(.*)$': p/$1}}\n  '*': {endpoint: [localhost:5001]}\n",
		"configs:\n  a.example: {auth: {username: 0123, password: \"on\\u0007\\\"\"}, tls: {ca_file: /ca, cert_file: /c, key_file: /k, insecure_skip_verify: yes}}\n",
		"mirrors: {../../x: {endpoint: [a]}, '': {}, .: {}}\n",
		"mirrors: {a/b: {}, \"x\\n[host]\": {}}\nconfigs: {'*': {auth: {}}}\n",
		"mirrors: &a {x: *a}", "a: !!binary gIGC", "[", "",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		config, err := Parse(data)
		if err != nil {
			return
		}
		for name, text := range config.Hosts() {
			if name == "" || name == "." || name == ".." || filepath.Base(name) != name {
				t.Fatalf("the folder %q", name)
			}
			checkTOML(t, text)
		}
		checkTOML(t, config.AuthTOML())
	})
}

func checkTOML(t *testing.T, text string) {
	t.Helper()
	var read map[string]any
	if err := toml.Unmarshal([]byte(text), &read); err != nil {
		t.Fatalf("%q: %v", text, err)
	}
}
