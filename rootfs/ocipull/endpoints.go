package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/docker/cli/cli/config"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// registries is k3s's registries.yaml.
type registries struct {
	Mirrors map[string]mirror         `json:"mirrors"`
	Configs map[string]registryConfig `json:"configs"`
}

type mirror struct {
	Endpoints []string          `json:"endpoint"`
	Rewrites  map[string]string `json:"rewrite"`
}

type registryConfig struct {
	Auth *struct {
		Username      string `json:"username"`
		Password      string `json:"password"`
		Auth          string `json:"auth"`
		IdentityToken string `json:"identity_token"`
	} `json:"auth"`
	TLS *struct {
		CAFile             string `json:"ca_file"`
		CertFile           string `json:"cert_file"`
		KeyFile            string `json:"key_file"`
		InsecureSkipVerify bool   `json:"insecure_skip_verify"`
	} `json:"tls"`
}

// endpoint is one place that may have the blobs of a repository.
type endpoint struct {
	scheme string
	host   string
	path   string // of its API: "/v2", or what the user wrote instead
	repo   string // there
	login  authn.Authenticator
	wire   *wire
	mu     sync.Mutex
	ready  http.RoundTripper // after the login
}

func (e *endpoint) String() string { return e.scheme + "://" + e.host }

// dockerHub's names: what people write, what the library makes of it, and where its API is.
const (
	dockerHub    = "docker.io"
	dockerHubLib = name.DefaultRegistry
	dockerHubAPI = "registry-1.docker.io"
)

// hostOf gives the registry's name as registries.yaml and containerd know it.
func hostOf(registry string) string {
	if registry == dockerHubLib {
		return dockerHub
	}
	return registry
}

// endpoints lists where to look, mirrors first.
func endpoints(repo name.Repository, r registries, roots *x509.CertPool) ([]*endpoint, error) {
	host := hostOf(repo.RegistryStr())
	listed, ok := r.Mirrors[host]
	if !ok {
		listed = r.Mirrors["*"]
	}
	var found []*endpoint
	own := host
	if host == dockerHub {
		own = dockerHubAPI
	}
	for _, text := range append(slices.Clone(listed.Endpoints), own) {
		isOwn := text == own && len(found) == len(listed.Endpoints)
		e, err := parseEndpoint(text)
		if err != nil {
			return nil, err
		}
		// Who lists the registry itself has said how to reach it.
		if isOwn && slices.ContainsFunc(found, func(other *endpoint) bool { return other.host == e.host }) {
			continue
		}
		e.repo = repo.RepositoryStr()
		if !isOwn {
			if e.repo, err = rewrite(e.repo, listed.Rewrites); err != nil {
				return nil, err
			}
		}
		if e.login, err = login(repo, e.host, isOwn, r.Configs); err != nil {
			return nil, err
		}
		transport, err := transportFor(e.host, r.Configs, roots)
		if err != nil {
			return nil, err
		}
		e.wire = &wire{endpoint: e, inner: transport}
		found = append(found, e)
	}
	return found, nil
}

func parseEndpoint(text string) (*endpoint, error) {
	whole := text
	if !strings.Contains(whole, "://") {
		whole = "//" + whole
	}
	u, err := url.Parse(whole)
	if err != nil || u.Host == "" || !slices.Contains([]string{"", "http", "https"}, u.Scheme) {
		return nil, fail("registries", "the endpoint %q is no http or https address", text)
	}
	if u.Scheme == "" {
		u.Scheme = "https"
		if isLoopback(u.Hostname()) && u.Port() != "" && u.Port() != "443" {
			u.Scheme = "http"
		}
	}
	path := strings.TrimSuffix(u.Path, "/")
	if path == "" {
		path = "/v2"
	}
	host := u.Host
	if host == dockerHub {
		host = dockerHubAPI
	}
	return &endpoint{scheme: u.Scheme, host: host, path: path}, nil
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}

// rewrite applies the first expression that matches, in the order of their text.
func rewrite(repo string, rules map[string]string) (string, error) {
	var order []string
	for expression := range rules {
		order = append(order, expression)
	}
	slices.Sort(order)
	for _, expression := range order {
		pattern, err := regexp.Compile(expression)
		if err != nil {
			return "", fail("registries", "the rewrite %q is no regular expression: %v", expression, err)
		}
		if pattern.MatchString(repo) {
			return pattern.ReplaceAllString(repo, rules[expression]), nil
		}
	}
	return repo, nil
}

// configFor is what registries.yaml says of a host.
func configFor(host string, configs map[string]registryConfig) registryConfig {
	names := []string{host}
	if host == dockerHubAPI {
		names = append(names, dockerHub)
	}
	for _, one := range append(names, "*") {
		if found, ok := configs[one]; ok {
			return found
		}
	}
	return registryConfig{}
}

// login finds the credentials for a host: those of registries.yaml, else those of the user's docker config.
func login(repo name.Repository, host string, own bool, configs map[string]registryConfig) (authn.Authenticator, error) {
	if a := configFor(host, configs).Auth; a != nil {
		return authn.FromConfig(authn.AuthConfig{
			Username: a.Username, Password: a.Password, Auth: a.Auth, IdentityToken: a.IdentityToken,
		}), nil
	}
	var target authn.Resource = repo
	if !own {
		registry, err := name.NewRegistry(host)
		if err != nil {
			return nil, fail("registries", "%v", err)
		}
		target = registry
	}
	found, err := authn.DefaultKeychain.Resolve(target)
	if err != nil {
		// What a credential helper prints may hold anything.
		return nil, fail("credentials", "the docker config has no answer for %s: %s", host, helperFault(host))
	}
	return found, nil
}

// helperFault says which program the docker config asks for a host's credentials, and whether it is there.
func helperFault(host string) string {
	settings, err := config.Load(os.Getenv("DOCKER_CONFIG"))
	if err != nil {
		return "it cannot be read"
	}
	helper := settings.CredentialHelpers[host]
	if helper == "" {
		helper = settings.CredentialsStore
	}
	if helper == "" {
		return "what it says of it cannot be used"
	}
	program := "docker-credential-" + helper
	if _, err := exec.LookPath(program); err != nil {
		return "it names the helper " + program + ", which is not on PATH"
	}
	return "its helper " + program + " failed"
}

func transportFor(host string, configs map[string]registryConfig, roots *x509.CertPool) (http.RoundTripper, error) {
	settings := &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
	if t := configFor(host, configs).TLS; t != nil {
		settings.InsecureSkipVerify = t.InsecureSkipVerify
		if t.CAFile != "" {
			pool, err := withRoots(roots, []string{t.CAFile})
			if err != nil {
				return nil, err
			}
			settings.RootCAs = pool
		}
		if t.CertFile != "" {
			pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
			if err != nil {
				return nil, fail("registries", "the client certificate for %s cannot be used: %v", host, err)
			}
			settings.Certificates = []tls.Certificate{pair}
		}
	}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 15 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:       settings,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: 60 * time.Second,
		IdleConnTimeout:       30 * time.Second,
		ForceAttemptHTTP2:     true,
	}, nil
}

// withRoots adds authorities to those that are there, or to the host's.
func withRoots(base *x509.CertPool, files []string) (*x509.CertPool, error) {
	if len(files) == 0 {
		return base, nil
	}
	var pool *x509.CertPool
	if base != nil {
		pool = base.Clone()
	} else if system, err := x509.SystemCertPool(); err == nil {
		pool = system
	} else {
		pool = x509.NewCertPool()
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fail("registries", "the authority's certificate cannot be read: %v", err)
		}
		if !pool.AppendCertsFromPEM(text) {
			return nil, fail("registries", "%q holds no certificate in PEM form", file)
		}
	}
	return pool, nil
}

// wire sends requests for the registry's host the way the endpoint says, and keeps the last thing that went
// wrong below HTTP, which the library's own errors do not always hold on to.
type wire struct {
	endpoint *endpoint
	inner    http.RoundTripper
	last     atomic.Pointer[error]
}

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(in *http.Request) (*http.Response, error) {
	e := w.endpoint
	if in.URL.Host == e.host {
		in = in.Clone(in.Context())
		in.URL.Scheme = e.scheme
		if rest, found := strings.CutPrefix(in.URL.Path, "/v2/"); found && (rest != "" || !strings.HasPrefix(e.path, "/v2")) {
			in.URL.Path = e.path + "/" + rest
		}
	}
	response, err := w.inner.RoundTrip(in)
	if err != nil {
		// What a proxy says instead of a connection has no type of its own.
		if proxy, _ := http.ProxyFromEnvironment(in); proxy != nil && classify(err).Kind == "other" {
			err = fail("unreachable", "the proxy of the environment gives no way there: %s", oneLine(err))
		}
		w.last.Store(&err)
	}
	return response, err
}
