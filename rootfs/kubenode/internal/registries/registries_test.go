package registries

import (
	"fmt"
	"strings"
	"testing"
)

const sample = `
mirrors:
  docker.io:
    endpoint: ["https://mirror.example:5000", "http://plain.example/v2/prefix/"]
  "*":
    endpoint: ["mirror.example:5000"]
configs:
  mirror.example:5000:
    auth: {username: u, password: 'p"q'}
    tls: {ca_file: /etc/ca.crt, insecure_skip_verify: true}
`

func TestHostsTranslatesMirrorsAndTLS(t *testing.T) {
	c, err := Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	hosts := c.Hosts()
	docker := hosts["docker.io"]
	for _, want := range []string{
		`server = "https://registry-1.docker.io"`,
		"[host.\"https://mirror.example:5000\"]\n  capabilities = [\"pull\", \"resolve\"]\n  ca = \"/etc/ca.crt\"\n  skip_verify = true\n",
		"[host.\"http://plain.example/v2/prefix\"]\n  capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n",
	} {
		if !strings.Contains(docker, want) {
			t.Errorf("docker.io lacks %q:\n%s", want, docker)
		}
	}
	if _, ok := hosts["_default"]; !ok || strings.Contains(hosts["_default"], "server") {
		t.Errorf("the wildcard: %q", hosts["_default"])
	}
	if _, ok := hosts["mirror.example:5000"]; !ok {
		t.Errorf("a configured registry has no directory: %v", hosts)
	}
}

func TestRewritesThatPutSomethingInFrontBecomeAPath(t *testing.T) {
	c, err := Parse([]byte(`
mirrors:
  ghcr.io:
    endpoint: ["localhost:5000", "https://mirror.example/v2/base"]
    rewrite: {"^(.*)$": "kept/ghcr/$1"}
`))
	if err != nil {
		t.Fatal(err)
	}
	got := c.Hosts()["ghcr.io"]
	for _, want := range []string{
		"[host.\"http://localhost:5000/v2/kept/ghcr\"]\n  capabilities = [\"pull\", \"resolve\"]\n  override_path = true\n",
		"[host.\"https://mirror.example/v2/base/kept/ghcr\"]\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("lacks %q:\n%s", want, got)
		}
	}
}

func TestAuthTOMLQuotesCredentials(t *testing.T) {
	c, err := Parse([]byte(sample))
	if err != nil {
		t.Fatal(err)
	}
	got := c.AuthTOML()
	if !strings.Contains(got, `registry.configs."mirror.example:5000".auth]`) || !strings.Contains(got, `password = "p\"q"`) {
		t.Errorf("got %s", got)
	}
}

func TestParseRefusesWhatItDoesNotKnow(t *testing.T) {
	for _, text := range []string{"mirrors: {a: {endpoint: ['ftp://x']}}", "mirors: {}", "mirrors: {a: {endpoint: ['http://']}}",
		"mirrors: {a: {endpoint: [b.example], rewrite: {'^library/(.*)': 'x/$1'}}}",
		"mirrors: {a: {endpoint: [b.example], rewrite: {'^(.*)$': 'x-$1'}}}"} {
		if _, err := Parse([]byte(text)); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestParseRefusesNamesThatAreNotAHost(t *testing.T) {
	for _, name := range []string{
		"", ".", "..", "../x", "a/b", "/etc", "_default", "a..b", "a b", "a:port", "https://a.example", `a\b`, "[x]", "a\n", "é.example",
	} {
		for _, section := range []string{"mirrors", "configs"} {
			if _, err := Parse(fmt.Appendf(nil, "%s: {%q: {}}", section, name)); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%q", name)) {
				t.Errorf("%s %q: got %v", section, name, err)
			}
		}
	}
	c, err := Parse([]byte("mirrors: {'*': {}, localhost: {}, 'my_registry:5000': {}, Docker.IO: {}, '[::1]:5000': {}, 10.0.0.1: {}, registry-1.example: {}}"))
	if err != nil || len(c.Hosts()) != 7 {
		t.Errorf("got %v, %v", c, err)
	}
}

func TestParseTakesFilesAsK3sUsersHaveThem(t *testing.T) {
	c, err := Parse([]byte(`
mirrors:
  "*":
  docker.io:
  ghcr.io: {endpoint: ["https://mirror.example/v2/x"], override_path: true}
configs:
  a.example: {auth: {username: on, password: 0123}, tls: {insecure_skip_verify: yes}}
  b.example: {auth: {username: "1_000", password: 12345678901234567890}}
  c.example:
    # auth: {}
`))
	if err != nil {
		t.Fatal(err)
	}
	if got := *c.Configs["a.example"].Auth; got.Username != "on" || got.Password != "0123" {
		t.Errorf("got %+v", got)
	}
	if got := *c.Configs["b.example"].Auth; got.Username != "1_000" || got.Password != "12345678901234567890" {
		t.Errorf("got %+v", got)
	}
	hosts := c.Hosts()
	if !strings.Contains(hosts["a.example"], "skip_verify = true") || !strings.Contains(hosts["docker.io"], "registry-1.docker.io") {
		t.Errorf("got %q", hosts)
	}
	if _, err := Parse([]byte("configs:\n  # a.example:\n")); err != nil {
		t.Error(err)
	}
}
