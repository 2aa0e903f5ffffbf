// Package registries translates k3s's registries.yaml into containerd's certs.d directories and
// the credentials of its CRI plugin. It reads and writes no file.
package registries

import (
	"fmt"
	"net"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// Config is registries.yaml.
type Config struct {
	Mirrors map[string]Mirror   `json:"mirrors"`
	Configs map[string]Registry `json:"configs"`
}

// Mirror lists where to look instead of a registry.
type Mirror struct {
	Endpoints []string `json:"endpoint"`
	// Rewrites are expressions of repositories and what takes their place. containerd itself has none, so only
	// those that put something in front can be followed: they become a part of the endpoint's path.
	Rewrites map[string]string `json:"rewrite"`
}

// Registry holds what is needed to talk to one registry.
type Registry struct {
	Auth *Auth `json:"auth"`
	TLS  *TLS  `json:"tls"`
}

// Auth is a registry's credentials; they end in a file readable by root only.
type Auth struct {
	Username      string `json:"username"`
	Password      string `json:"password"`
	Auth          string `json:"auth"`
	IdentityToken string `json:"identity_token"`
}

// TLS names the files for a registry's TLS.
type TLS struct {
	CAFile             string `json:"ca_file"`
	CertFile           string `json:"cert_file"`
	KeyFile            string `json:"key_file"`
	InsecureSkipVerify bool   `json:"insecure_skip_verify"`
}

// Parse reads registries.yaml and refuses what it does not know.
func Parse(data []byte) (*Config, error) {
	c := &Config{}
	if err := yaml.UnmarshalStrict(data, c); err != nil {
		return nil, fmt.Errorf("cannot read the registries configuration: %w", err)
	}
	for name, mirror := range c.Mirrors {
		for _, endpoint := range mirror.Endpoints {
			if _, err := parseEndpoint(endpoint); err != nil {
				return nil, fmt.Errorf("mirror %q: %w", name, err)
			}
		}
		if _, err := mirror.prefix(); err != nil {
			return nil, fmt.Errorf("mirror %q: %w", name, err)
		}
	}
	return c, nil
}

// whole matches the expressions that stand for a whole repository.
var whole = []string{"^(.*)$", "^(.*)", "(.*)", "(.*)$", "^(.+)$", "(.+)"}

// prefix is what the rewrites put in front of every repository.
func (m Mirror) prefix() (string, error) {
	if len(m.Rewrites) == 0 {
		return "", nil
	}
	for expression, to := range m.Rewrites {
		before, found := strings.CutSuffix(strings.ReplaceAll(to, "${1}", "$1"), "/$1")
		if len(m.Rewrites) > 1 || !found || before == "" || strings.Contains(before, "$") || !slices.Contains(whole, expression) {
			return "", fmt.Errorf("the rewrite %q to %q cannot be followed: only one of \"^(.*)$\" to \"a/prefix/$1\" can", expression, to)
		}
		return strings.Trim(before, "/"), nil
	}
	return "", nil
}

// parseEndpoint reads an address as k3s does: loopback with a port of its own is plain HTTP unless it says otherwise,
// and a path of the user's own is taken as it is.
func parseEndpoint(endpoint string) (*url.URL, error) {
	text := endpoint
	if !strings.Contains(text, "://") {
		text = "//" + text
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || (u.Scheme != "" && u.Scheme != "https" && u.Scheme != "http") {
		return nil, fmt.Errorf("%q is no http or https address", endpoint)
	}
	if u.Scheme == "" {
		u.Scheme = "https"
		ip := net.ParseIP(u.Hostname())
		loopback := u.Hostname() == "localhost" || (ip != nil && ip.IsLoopback())
		if loopback && u.Port() != "" && u.Port() != "443" {
			u.Scheme = "http"
		}
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	if u.Path == "/v2" {
		u.Path = ""
	}
	return u, nil
}

// Hosts gives hosts.toml of every registry that is named, by the name of its directory below certs.d.
func (c *Config) Hosts() map[string]string {
	names := map[string]bool{}
	for name := range c.Mirrors {
		names[name] = true
	}
	for name := range c.Configs {
		if _, ok := c.Mirrors["*"]; !ok || c.Configs[name].TLS != nil {
			names[name] = true
		}
	}
	out := map[string]string{}
	for name := range names {
		directory := name
		if name == "*" {
			directory = "_default"
		}
		out[directory] = c.hostsFile(name)
	}
	return out
}

func (c *Config) hostsFile(name string) string {
	var b strings.Builder
	if name != "*" {
		fmt.Fprintf(&b, "server = %s\n", quote("https://"+upstream(name)))
		c.tls(&b, "", name)
	}
	prefix, _ := c.Mirrors[name].prefix()
	for _, endpoint := range c.Mirrors[name].Endpoints {
		u, err := parseEndpoint(endpoint)
		if err != nil {
			continue
		}
		path := u.Path
		if prefix != "" {
			if path == "" {
				path = "/v2"
			}
			path += "/" + prefix
		}
		fmt.Fprintf(&b, "\n[host.%s]\n  capabilities = [\"pull\", \"resolve\"]\n", quote(u.Scheme+"://"+u.Host+path))
		if path != "" {
			b.WriteString("  override_path = true\n")
		}
		c.tls(&b, "  ", u.Host)
	}
	return b.String()
}

// upstream is where a registry's API lives; the well-known one is served under another name.
func upstream(name string) string {
	if name == "docker.io" {
		return "registry-1.docker.io"
	}
	return name
}

func (c *Config) tls(b *strings.Builder, indent, host string) {
	t := c.Configs[host].TLS
	if t == nil {
		return
	}
	if t.CAFile != "" {
		fmt.Fprintf(b, "%sca = %s\n", indent, quote(t.CAFile))
	}
	if t.CertFile != "" && t.KeyFile != "" {
		fmt.Fprintf(b, "%sclient = [[%s, %s]]\n", indent, quote(t.CertFile), quote(t.KeyFile))
	}
	if t.InsecureSkipVerify {
		fmt.Fprintf(b, "%sskip_verify = true\n", indent)
	}
}

// AuthTOML gives the credentials as tables of containerd's CRI image plugin.
func (c *Config) AuthTOML() string {
	var hosts []string
	for host, registry := range c.Configs {
		if registry.Auth != nil {
			hosts = append(hosts, host)
		}
	}
	slices.Sort(hosts)
	var b strings.Builder
	for _, host := range hosts {
		a := c.Configs[host].Auth
		fmt.Fprintf(&b, "\n[plugins.'io.containerd.cri.v1.images'.registry.configs.%s.auth]\n", quote(host))
		for _, pair := range [][2]string{{"username", a.Username}, {"password", a.Password}, {"auth", a.Auth}, {"identitytoken", a.IdentityToken}} {
			if pair[1] != "" {
				fmt.Fprintf(&b, "  %s = %s\n", pair[0], quote(pair[1]))
			}
		}
	}
	return b.String()
}

// quote makes a TOML basic string; Go's escapes are a subset of TOML's for what strconv leaves of plain ASCII.
func quote(s string) string { return strconv.QuoteToASCII(s) }
