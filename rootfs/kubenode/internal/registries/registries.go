// Package registries translates k3s's registries.yaml into containerd's certs.d directories and
// the credentials of its CRI plugin. It reads and writes no file.
package registries

import (
	"fmt"
	"net"
	"net/url"
	"regexp"
	"slices"
	"strings"

	// As k3s: a user's name or password is the text that stands there, be it 0123 or on.
	"go.yaml.in/yaml/v2"

	"gateway.local/kubenode/internal/crconfig"
)

// Config is registries.yaml.
type Config struct {
	Mirrors map[string]Mirror   `yaml:"mirrors"`
	Configs map[string]Registry `yaml:"configs"`
}

// Mirror lists where to look instead of a registry.
type Mirror struct {
	Endpoints []string `yaml:"endpoint"`
	// Rewrites are expressions of repositories and what takes their place. containerd itself has none, so only
	// those that put something in front can be followed: they become a part of the endpoint's path.
	Rewrites map[string]string `yaml:"rewrite"`
	// OverridePath is a field of containerd's own files that k3s ignores: an endpoint's path is taken as it is.
	OverridePath any `yaml:"override_path"`
}

// Registry holds what is needed to talk to one registry.
type Registry struct {
	Auth *Auth `yaml:"auth"`
	TLS  *TLS  `yaml:"tls"`
}

// Auth is a registry's credentials; they end in a file readable by root only.
type Auth struct {
	Username      string `yaml:"username"`
	Password      string `yaml:"password"`
	Auth          string `yaml:"auth"`
	IdentityToken string `yaml:"identity_token"`
}

// TLS names the files for a registry's TLS.
type TLS struct {
	CAFile             string `yaml:"ca_file"`
	CertFile           string `yaml:"cert_file"`
	KeyFile            string `yaml:"key_file"`
	InsecureSkipVerify bool   `yaml:"insecure_skip_verify"`
}

// Parse reads registries.yaml and refuses what it does not know.
func Parse(data []byte) (*Config, error) {
	c := &Config{}
	if err := yaml.UnmarshalStrict(data, c); err != nil {
		return nil, fmt.Errorf("cannot read the registries configuration: %w", err)
	}
	for name := range c.Configs {
		if err := checkName(name); err != nil {
			return nil, err
		}
	}
	for name, mirror := range c.Mirrors {
		if err := checkName(name); err != nil {
			return nil, err
		}
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

// hostName matches the names that registries and endpoints can have, with or without a port.
var hostName = regexp.MustCompile(`^(?:[A-Za-z0-9][A-Za-z0-9_-]*(?:\.[A-Za-z0-9][A-Za-z0-9_-]*)*|\[[0-9A-Fa-f:.]+\])(?::[0-9]+)?$`)

// checkName refuses what is not a host: a name becomes a folder of certs.d, and some would be one outside of it or
// another registry's.
func checkName(name string) error {
	if name != "*" && !hostName.MatchString(name) {
		return fmt.Errorf("%q is not a registry's host, such as registry.example:5000, or \"*\"", name)
	}
	return nil
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
		fmt.Fprintf(&b, "server = %s\n", crconfig.Quote("https://"+upstream(name)))
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
		fmt.Fprintf(&b, "\n[host.%s]\n  capabilities = [\"pull\", \"resolve\"]\n", crconfig.Quote(u.Scheme+"://"+u.Host+path))
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
		fmt.Fprintf(b, "%sca = %s\n", indent, crconfig.Quote(t.CAFile))
	}
	if t.CertFile != "" && t.KeyFile != "" {
		fmt.Fprintf(b, "%sclient = [[%s, %s]]\n", indent, crconfig.Quote(t.CertFile), crconfig.Quote(t.KeyFile))
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
		fmt.Fprintf(&b, "\n[plugins.'io.containerd.cri.v1.images'.registry.configs.%s.auth]\n", crconfig.Quote(host))
		for _, pair := range [][2]string{{"username", a.Username}, {"password", a.Password}, {"auth", a.Auth}, {"identitytoken", a.IdentityToken}} {
			if pair[1] != "" {
				fmt.Fprintf(&b, "  %s = %s\n", pair[0], crconfig.Quote(pair[1]))
			}
		}
	}
	return b.String()
}
