package main

import (
	"crypto/tls"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"gateway.local/standin/wire"
)

func assertStatus(t *testing.T, err error, code codes.Code, message string) {
	t.Helper()
	found := status.Convert(err)
	if found.Code() != code || !strings.Contains(found.Message(), message) {
		t.Errorf("%s %q instead of %s %q", found.Code(), found.Message(), code, message)
	}
}

func TestOnlyHealthNeedsNoLogin(t *testing.T) {
	ca := newAuthority(t)
	to := newPlace(t, ca, "").dial(clientTLS(ca, false))
	health, err := wire.Call[wire.HealthAnswer](t.Context(), to, wire.Method("Health"), &wire.Empty{})
	if err != nil || health.Status != wire.Healthy || health.Version != version {
		t.Fatal(health, err)
	}
	_, err = wire.Call[wire.HealthAnswer](t.Context(), to, "/grpc.health.v1.Health/Check", &wire.Empty{})
	assertStatus(t, err, codes.Unimplemented, "")
	_, err = wire.Call[wire.Empty](t.Context(), to, wire.Method("NoSuchMethod"), &wire.Empty{})
	assertStatus(t, err, codes.Unimplemented, "")
	for _, method := range []string{
		"GetCurrentUser", "CreateSandbox", "GetSandbox", "ListSandboxes", "DeleteSandbox", "CreateProvider", "ListProviders",
		"IssueSandboxToken", "GetSandboxPolicy",
	} {
		_, err := wire.Call[wire.Empty](t.Context(), to, wire.Method(method), &wire.Empty{})
		assertStatus(t, err, codes.Unauthenticated, "missing authorization header")
	}
	err = wire.CallStreaming(t.Context(), to, wire.Method("ExecSandbox"), &wire.ExecRequest{},
		func(*wire.ExecEvent) error { return nil })
	assertStatus(t, err, codes.Unauthenticated, "missing authorization header")
	_, err = currentUser(t, to, "a.token.of-some-kind")
	assertStatus(t, err, codes.Unauthenticated, "")
}

func TestTheUnsafeSwitchMakesEveryClientAnAdministrator(t *testing.T) {
	ca := newAuthority(t)
	p := newPlace(t, ca, "[openshell.gateway.auth]\nallow_unauthenticated_users = true\n")
	who, err := currentUser(t, p.dial(clientTLS(ca, false)), "")
	if err != nil || who.Subject != "unauthenticated-local-dev" || who.Roles[0] != "openshell-admin" {
		t.Fatal(who, err)
	}
}

func TestSandboxTokensDoWhatSandboxesDoAndNothingElse(t *testing.T) {
	ca := newAuthority(t)
	p := newPlace(t, ca, "[openshell.gateway.auth]\nallow_unauthenticated_users = true\n")
	to := p.dial(clientTLS(ca, false))
	token := must(p.gateway.keys.mint("id"))
	_, err := currentUser(t, to, token)
	assertStatus(t, err, codes.PermissionDenied, "")
	ctx := metadata.AppendToOutgoingContext(t.Context(), "authorization", "Bearer "+token)
	if _, err := wire.Call[wire.Policy](ctx, to, wire.Method("GetSandboxPolicy"), &wire.Empty{}); err != nil {
		t.Error(err)
	}
	_, err = currentUser(t, to, must(newPlace(t, ca, "").gateway.keys.mint("id")))
	assertStatus(t, err, codes.Unauthenticated, "")
}

func TestAPlainRequestFindsNothing(t *testing.T) {
	ca := newAuthority(t)
	p := newPlace(t, ca, "")
	client := http.Client{Transport: &http.Transport{TLSClientConfig: clientTLS(ca, false), ForceAttemptHTTP2: true}}
	answer := must(client.Get("https://" + p.address + "/"))
	body := must(io.ReadAll(answer.Body))
	if answer.StatusCode != http.StatusNotFound || len(body) != 0 {
		t.Fatal(answer.Status, body)
	}
}

func TestAClientNeedsACertificateOfTheAuthority(t *testing.T) {
	ca := newAuthority(t)
	p := newPlace(t, ca, "")
	foreign := clientTLS(ca, true)
	foreign.Certificates = clientTLS(newAuthority(t), false).Certificates
	for _, config := range []*tls.Config{clientTLS(ca, true), foreign} {
		_, err := wire.Call[wire.HealthAnswer](t.Context(), p.dial(config), wire.Method("Health"), &wire.Empty{})
		assertStatus(t, err, codes.Unavailable, "")
	}
}

func TestTLSFilesAreReadAnewAndJWTKeysAreNot(t *testing.T) {
	old, next := newAuthority(t), newAuthority(t)
	p := newPlace(t, old, "")
	token := must(p.gateway.keys.mint("id"))
	certificate, key := next.issue(9)
	p.write("ca.crt", next.pem())
	p.write("tls.crt", certificate)
	p.write("tls.key", key)
	for _, name := range []string{"signing.pem", "public.pem", "kid"} {
		p.write(name, []byte("none"))
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		_, err := currentUser(t, p.dial(clientTLS(next, false)), "")
		if status.Code(err) == codes.Unauthenticated {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	_, err := currentUser(t, p.dial(clientTLS(old, false)), "")
	assertStatus(t, err, codes.Unavailable, "")
	if _, err := p.gateway.keys.check(token); err != nil {
		t.Error(err)
	}
}

func TestTheDatabaseOutlivesTheProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	g := &gateway{db: must(openDatabase(path))}
	provider := &wire.Provider{Name: "one", Type: "generic"}
	if _, err := g.createProvider(t.Context(), provider); err != nil {
		t.Fatal(err)
	}
	_, err := g.createProvider(t.Context(), provider)
	assertStatus(t, err, codes.AlreadyExists, "")
	again := &gateway{db: must(openDatabase(path))}
	list, _ := again.listProviders(t.Context(), nil)
	if len(list.Providers) != 1 || list.Providers[0] != *provider {
		t.Fatal(list)
	}
}

func TestMTLSAuthEndsTheStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "gateway.toml")
	_ = os.WriteFile(path, []byte("[openshell.gateway.mtls_auth]\nenabled = true\n"), 0o600)
	if _, err := readConfig(path); err == nil || !strings.Contains(err.Error(), "not supported with the Kubernetes") {
		t.Fatal(err)
	}
}
