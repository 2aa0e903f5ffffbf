package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/spf13/pflag"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	"k8s.io/kubernetes/pkg/serviceaccount"

	"gateway.local/kubenode/internal/args"
	"gateway.local/kubenode/internal/layout"
	"gateway.local/kubenode/internal/pki"
)

// anonymousPages lets a caller without credentials see the health pages, and the two pages by which others check the
// signatures of service account tokens; the latter hold public keys only. Nothing else.
const anonymousPages = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions:
  - path: /livez
  - path: /readyz
  - path: /healthz
  - path: ` + serviceaccount.OpenIDConfigPath + `
  - path: ` + serviceaccount.JWKSPath + `
`

// featureGates are shared by all parts, since they run in one process.
const featureGates = "" +
	// One API server needs no lease that says it is there (a write every ten seconds).
	"APIServerIdentity=false," +
	// It forwards to API servers of other versions and needs those leases.
	"UnknownVersionInteroperabilityProxy=false," +
	// Container exits reach kubelet as events, ahead of its listing.
	"EventedPLEG=true"

// tokenIssuer is what service account tokens name as their origin, and where a pod finds the keys that verify them.
func tokenIssuer(s *args.Server) string { return "https://kubernetes.default.svc." + s.ClusterDomain }

func apiServerFlags(l layout.Layout, s *args.Server, authentication string) []string {
	issuer := tokenIssuer(s)
	return append([]string{
		"--advertise-address=" + s.NodeIP,
		"--bind-address=" + s.BindAddress,
		fmt.Sprintf("--secure-port=%d", s.Port),
		"--tls-cert-file=" + l.TLS("serving-kube-apiserver.crt"),
		"--tls-private-key-file=" + l.TLS("serving-kube-apiserver.key"),
		"--client-ca-file=" + l.TLS("client-ca.crt"),
		"--etcd-servers=unix://" + l.KineSocket(),
		"--service-cluster-ip-range=" + s.ServiceCIDR,
		"--service-node-port-range=" + s.NodePortRange,
		"--service-account-issuer=" + issuer,
		"--api-audiences=" + issuer + ",k3s",
		// Clients of OpenID Connect take keys from the issuer's own origin only.
		"--service-account-jwks-uri=" + issuer + serviceaccount.JWKSPath,
		"--kubelet-certificate-authority=" + l.TLS("server-ca.crt"),
		"--kubelet-client-certificate=" + l.TLS("client-kube-apiserver.crt"),
		"--kubelet-client-key=" + l.TLS("client-kube-apiserver.key"),
		"--kubelet-preferred-address-types=InternalIP,Hostname",
		"--requestheader-client-ca-file=" + l.TLS("request-header-ca.crt"),
		"--requestheader-allowed-names=system:auth-proxy",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--proxy-client-cert-file=" + l.TLS("client-auth-proxy.crt"),
		"--proxy-client-key-file=" + l.TLS("client-auth-proxy.key"),
		"--authentication-config=" + authentication,
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--allow-privileged=true",
		"--feature-gates=" + featureGates,
		// This plugin fetches the API server's own OpenAPI every five seconds, for ever, which makes it compute all of it
		// at start: a tenth of the start and the largest piece of an idle server's work, for a feature that is rarely used.
		"--disable-admission-plugins=MutatingAdmissionPolicy",
		"--profiling=false",
		// Priority levels serve a busy API server; they write some twenty objects at start and hold /readyz until then.
		"--enable-priority-and-fairness=false",
		"--runtime-config=flowcontrol.apiserver.k8s.io/v1=false",
		// One API server: no lease record in the database every ten seconds to count servers by.
		"--endpoint-reconciler-type=master-count",
		// Both polls only feed metrics that nobody scrapes.
		"--etcd-count-metric-poll-period=0",
		"--etcd-db-metric-poll-interval=0",
		// Events of an idle node need not be looked at for an hour by several leases.
		"--lease-reuse-duration-seconds=3600",
		// Stop quickly: there is no load balancer that must notice first.
		"--shutdown-delay-duration=0s",
	}, args.Flags(s.APIServerArgs)...)
}

// prepareAPIServer reads the flags and returns the function that runs the API server until its context ends.
func (c *cluster) prepareAPIServer(l layout.Layout, s *args.Server) (part, error) {
	authentication := l.Server("etc", "authentication.yaml")
	if err := os.MkdirAll(l.Server("etc"), 0o700); err != nil {
		return nil, err
	}
	if err := pki.WriteFile(authentication, []byte(anonymousPages), 0o600); err != nil {
		return nil, err
	}
	o := options.NewServerRunOptions()
	flags := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, set := range o.Flags().FlagSets {
		flags.AddFlagSet(set)
	}
	argv := apiServerFlags(l, s, authentication)
	if err := parseFlags(flags, argv); err != nil {
		return nil, err
	}
	keys, err := signTokens(o, l, s)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		completed, err := o.Complete(ctx)
		if err != nil {
			return err
		}
		if keys != nil {
			completed.ServiceAccountIssuer = keys
		}
		if errs := completed.Validate(); len(errs) != 0 {
			return utilerrors.NewAggregate(errs)
		}
		return c.runAPIServer(ctx, completed, argv)
	}, nil
}

// signTokens makes the API server use keys that can be replaced while it runs. With keys of the user's own
// (--kube-apiserver-arg=service-account-…) those stay as they are, and it gives nil.
func signTokens(o *options.ServerRunOptions, l layout.Layout, s *args.Server) (*tokenKeys, error) {
	path := l.TLS("service.key")
	keys, err := newTokenKeys(path, tokenIssuer(s))
	if err != nil {
		return nil, err
	}
	accounts := o.Authentication.ServiceAccounts
	if o.ServiceAccountSigningEndpoint != "" {
		return nil, nil
	}
	if o.ServiceAccountSigningKeyFile != "" || len(accounts.KeyFiles) > 0 {
		accounts.KeyFiles = append(accounts.KeyFiles, path)
		if o.ServiceAccountSigningKeyFile == "" {
			o.ServiceAccountSigningKeyFile = path
		}
		return nil, nil
	}
	accounts.ExternalPublicKeysGetter = keys
	return keys, keys.serve()
}

// parseFlags names the part whose flag is wrong.
func parseFlags(flags *pflag.FlagSet, argv []string) error {
	flags.SetOutput(io.Discard)
	flags.Usage = func() {}
	if err := flags.Parse(argv); err != nil {
		return fmt.Errorf("%s: %w", flags.Name(), err)
	}
	return nil
}

// apiProbe asks the API server's health pages as the administrator.
type apiProbe struct {
	client *http.Client
	base   string
}

func newAPIProbe(l layout.Layout, s *args.Server) (*apiProbe, error) {
	ca, err := os.ReadFile(l.TLS("server-ca.crt"))
	if err != nil {
		return nil, err
	}
	pair, err := tls.LoadX509KeyPair(l.TLS("client-admin.crt"), l.TLS("client-admin.key"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, errors.New("the server authority's file holds no certificate")
	}
	return &apiProbe{
		client: &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}}},
		base:   "https://" + net.JoinHostPort("127.0.0.1", fmt.Sprint(s.Port)),
	}, nil
}

// wait returns once path answers 200, or anything at all when any is set.
func (p *apiProbe) wait(ctx context.Context, path string, any bool) error {
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+path, nil)
		if err != nil {
			return err
		}
		if response, err := p.client.Do(request); err == nil {
			_, _ = io.Copy(io.Discard, response.Body)
			response.Body.Close()
			if any || response.StatusCode == http.StatusOK {
				return nil
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
}
