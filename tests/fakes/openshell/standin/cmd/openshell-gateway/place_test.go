package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"gateway.local/standin/wire"
)

// place is a gateway on loopback with files as its chart mounts them.
type place struct {
	t       *testing.T
	dir     string
	gateway *gateway
	address string
}

// authority signs certificates.
type authority struct {
	certificate *x509.Certificate
	key         crypto.Signer
}

func newAuthority(t *testing.T) *authority {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der := must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	return &authority{must(x509.ParseCertificate(der)), key}
}

func (a *authority) issue(serial int64) (certPEM, keyPEM []byte) {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: "leaf"}, IPAddresses: []net.IP{{127, 0, 0, 1}},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der := must(x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key))
	return toPEM("CERTIFICATE", der), toPEM("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(key)))
}

func (a *authority) pem() []byte { return toPEM("CERTIFICATE", a.certificate.Raw) }

func toPEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// newPlace starts a gateway whose gateway.toml has these lines besides the usual ones.
func newPlace(t *testing.T, ca *authority, more string) *place {
	p := &place{t: t, dir: t.TempDir()}
	certificate, key := ca.issue(2)
	p.write("ca.crt", ca.pem())
	p.write("tls.crt", certificate)
	p.write("tls.key", key)
	public, private, _ := ed25519.GenerateKey(rand.Reader)
	p.write("signing.pem", toPEM("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(private))))
	p.write("public.pem", toPEM("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(public))))
	p.write("kid", []byte("kid-of-sandboxes"))
	p.write("gateway.toml", fmt.Appendf(nil, `
[openshell.gateway.tls]
cert_path = "%[1]s/tls.crt"
key_path = "%[1]s/tls.key"
client_ca_path = "%[1]s/ca.crt"
[openshell.gateway.gateway_jwt]
signing_key_path = "%[1]s/signing.pem"
public_key_path = "%[1]s/public.pem"
kid_path = "%[1]s/kid"
gateway_id = "openshell"
ttl_secs = 3600
%[2]s`, p.dir, more))
	config, err := readConfig(filepath.Join(p.dir, "gateway.toml"))
	if err != nil {
		t.Fatal(err)
	}
	p.gateway = &gateway{config: config, keys: must(loadSandboxKeys(config))}
	p.gateway.db = must(openDatabase(filepath.Join(p.dir, "db")))
	if config.hasOIDC() {
		p.gateway.oidc = must(newOIDC(t.Context(), config.Gateway.OIDC))
	}
	identity := must(loadIdentity(config.Gateway.TLS, !config.hasOIDC()))
	if err := identity.watch(t.Context()); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(routes(p.gateway))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{GetConfigForClient: identity.current, NextProtos: []string{"h2"}}
	server.StartTLS()
	t.Cleanup(server.Close)
	p.address = server.Listener.Addr().String()
	return p
}

func (p *place) write(name string, content []byte) {
	if err := os.WriteFile(filepath.Join(p.dir, name), content, 0o600); err != nil {
		p.t.Fatal(err)
	}
}

// clientTLS is a client's side, with a certificate of the authority or without one.
func clientTLS(ca *authority, bare bool) *tls.Config {
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	config.RootCAs.AddCert(ca.certificate)
	if !bare {
		config.Certificates = []tls.Certificate{must(tls.X509KeyPair(ca.issue(3)))}
	}
	return config
}

func (p *place) dial(config *tls.Config) *grpc.ClientConn {
	to := must(grpc.NewClient("passthrough:///"+p.address,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithNoProxy(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(wire.Codec{}))))
	p.t.Cleanup(func() { to.Close() })
	return to
}

// currentUser asks who a token stands for; "" is a call without one.
func currentUser(t *testing.T, to *grpc.ClientConn, token string) (*wire.CurrentUser, error) {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if token != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	return wire.Call[wire.CurrentUser](ctx, to, wire.Method("GetCurrentUser"), &wire.Empty{})
}
