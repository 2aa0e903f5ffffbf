// Package registries translates k3s's registries.yaml into containerd's certs.d directories and
// the credentials of its CRI plugin. It reads and writes no file.
package registries

import (
	"fmt"
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
	}
	return c, nil
}

func parseEndpoint(endpoint string) (*url.URL, error) {
	if !strings.Contains(endpoint, "://") {
		endpoint = "https://" + endpoint
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Host == "" || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, fmt.Errorf("%q is no http or https address", endpoint)
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
	for _, endpoint := range c.Mirrors[name].Endpoints {
		u, err := parseEndpoint(endpoint)
		if err != nil {
			continue
		}
		address := u.Scheme + "://" + u.Host + strings.TrimSuffix(u.Path, "/")
		if u.Path != "" && u.Path != "/" && !strings.HasSuffix(address, "/v2") {
			address += "/v2"
		}
		fmt.Fprintf(&b, "\n[host.%s]\n  capabilities = [\"pull\", \"resolve\"]\n", quote(address))
		if u.Path != "" && u.Path != "/" {
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
