package main

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"gateway.local/kubenode/internal/args"
	"gateway.local/kubenode/internal/layout"
	"gateway.local/kubenode/internal/pki"
)

// certificate is one leaf with where it lives and who signs it.
type certificate struct {
	authority string
	path      string // without .crt or .key
	leaf      pki.Leaf
}

// identities lists every leaf certificate of the cluster.
func identities(l layout.Layout, s *args.Server) ([]certificate, error) {
	api, err := s.ServiceAddress(1)
	if err != nil {
		return nil, err
	}
	names := []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + s.ClusterDomain,
		"localhost", s.NodeName, "127.0.0.1", "::1", s.NodeIP, api.String()}
	client := func(path, name string, groups ...string) certificate {
		return certificate{"client-ca", path, pki.Leaf{CommonName: name, Organizations: groups, Client: true}}
	}
	const masters = "system:masters"
	return []certificate{
		{"server-ca", l.TLS("serving-kube-apiserver"), pki.Leaf{CommonName: "kube-apiserver", Names: append(names, s.TLSSANs...), Server: true}},
		{"server-ca", l.Agent("serving-kubelet"), pki.Leaf{CommonName: s.NodeName, Names: []string{s.NodeName, "localhost", "127.0.0.1", s.NodeIP}, Server: true}},
		{"request-header-ca", l.TLS("client-auth-proxy"), pki.Leaf{CommonName: "system:auth-proxy", Client: true}},
		client(l.TLS("client-admin"), "system:admin", masters),
		client(l.TLS("client-kube-apiserver"), "system:apiserver", masters),
		// These two share a process with the authority's key, so a narrower role protects nothing; with this one they
		// need not wait for the API server to write its default roles, nor keep a token for each of 30 controllers.
		client(l.TLS("client-controller"), "system:kube-controller-manager", masters),
		client(l.TLS("client-scheduler"), "system:kube-scheduler", masters),
		client(l.TLS("client-kube-proxy"), "system:kube-proxy"),
		client(l.Agent("client-kubelet"), "system:node:"+s.NodeName, "system:nodes"),
	}, nil
}

// ensurePKI makes whatever certificate and key is missing or near its end.
func ensurePKI(l layout.Layout, s *args.Server) error {
	now := time.Now()
	authorities := map[string]*pki.Authority{}
	for _, name := range []string{"server-ca", "client-ca", "request-header-ca"} {
		authority, err := pki.EnsureAuthority(l.TLS(), name, now)
		if err != nil {
			return err
		}
		authorities[name] = authority
	}
	certificates, err := identities(l, s)
	if err != nil {
		return err
	}
	errs := make([]error, len(certificates))
	var wait sync.WaitGroup
	for i, c := range certificates {
		wait.Go(func() {
			_, errs[i] = authorities[c.authority].Ensure(c.path+".crt", c.path+".key", c.leaf, now)
		})
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	for _, ca := range []string{"client-ca.crt", "server-ca.crt"} {
		if err := copyFile(l.TLS(ca), l.Agent(ca)); err != nil {
			return err
		}
	}
	return syncFilesystem(l.TLS())
}

// syncFilesystem makes the new files last before anything is signed that depends on them.
func syncFilesystem(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Syncfs(int(dir.Fd()))
}

func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return pki.WriteFile(to, data, 0o600)
}

// ensureToken writes server/token and its old name in k3s's format; nothing here reads them.
func ensureToken(l layout.Layout, s *args.Server) error {
	path := l.Server("token")
	if _, err := os.Stat(path); err == nil && s.Token == "" {
		return nil
	}
	secret := s.Token
	if secret == "" {
		random := make([]byte, 16)
		if _, err := rand.Read(random); err != nil {
			return err
		}
		secret = hex.EncodeToString(random)
	}
	if !strings.HasPrefix(secret, "K10") {
		ca, err := os.ReadFile(l.TLS("server-ca.crt"))
		if err != nil {
			return err
		}
		sum := sha256.Sum256(ca)
		secret = "K10" + hex.EncodeToString(sum[:]) + "::server:" + secret
	}
	for _, name := range []string{"token", "node-token"} {
		if err := pki.WriteFile(l.Server(name), []byte(secret+"\n"), 0o600); err != nil {
			return err
		}
	}
	return nil
}

// writeKubeconfigs gives each part its own file and the administrator theirs.
func writeKubeconfigs(l layout.Layout, s *args.Server) error {
	server := "https://" + net.JoinHostPort("127.0.0.1", fmt.Sprint(s.Port))
	of := func(name string) credentials {
		return credentials{server, l.TLS("server-ca.crt"), name + ".crt", name + ".key"}
	}
	for path, cert := range map[string]string{
		l.Cred("admin.kubeconfig"):      l.TLS("client-admin"),
		l.Cred("controller.kubeconfig"): l.TLS("client-controller"),
		l.Cred("scheduler.kubeconfig"):  l.TLS("client-scheduler"),
		l.Agent("kubeproxy.kubeconfig"): l.TLS("client-kube-proxy"),
		l.Agent("kubelet.kubeconfig"):   l.Agent("client-kubelet"),
	} {
		if err := of(cert).write(path, 0o600); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(s.WriteKubeconfig), 0o755); err != nil {
		return err
	}
	return of(l.TLS("client-admin")).write(s.WriteKubeconfig, s.KubeconfigMode)
}
