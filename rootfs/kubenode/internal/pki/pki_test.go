package pki

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"
)

var server = Leaf{CommonName: "kube-apiserver", Names: []string{"localhost", "127.0.0.1"}, Server: true}

func TestEnsureAuthorityKeepsWhatItMade(t *testing.T) {
	dir := t.TempDir()
	first, err := EnsureAuthority(dir, "server-ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	second, err := EnsureAuthority(dir, "server-ca", time.Now())
	if err != nil || !second.Cert.Equal(first.Cert) {
		t.Fatalf("second call: %v, same certificate: %v", err, second.Cert.Equal(first.Cert))
	}
	for _, name := range []string{"server-ca.crt", "server-ca.key"} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, info, err)
		}
	}
}

func TestEnsureAuthorityRefusesAFileItCannotRead(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "server-ca.crt"), []byte("noise"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureAuthority(dir, "server-ca", time.Now()); err == nil {
		t.Error("a broken authority was replaced silently")
	}
}

func TestEnsureAuthorityTakesAnEmptyFileForAMissingOne(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"server-ca.crt", "server-ca.key"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := EnsureAuthority(dir, "server-ca", time.Now()); err != nil {
		t.Error(err)
	}
}

func TestEnsureSignsALeafThatVerifies(t *testing.T) {
	dir := t.TempDir()
	ca, err := EnsureAuthority(dir, "server-ca", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	crt, key := filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")
	if made, err := ca.Ensure(crt, key, server, time.Now()); err != nil || !made {
		t.Fatalf("made %v, %v", made, err)
	}
	leaf, err := loadCert(crt)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(ca.Cert)
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "localhost"}); err != nil {
		t.Error(err)
	}
}

func TestEnsureRenewsOnlyWhenItMust(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	ca, _ := EnsureAuthority(dir, "server-ca", now)
	other, _ := EnsureAuthority(dir, "client-ca", now)
	crt, key := filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key")
	ensure := func(a *Authority, l Leaf, at time.Time) bool {
		made, err := a.Ensure(crt, key, l, at)
		if err != nil {
			t.Fatal(err)
		}
		return made
	}
	more := server
	more.Names = append([]string{"192.168.127.2"}, server.Names...)
	renamed := more
	renamed.Organizations = []string{"system:masters"}
	for _, step := range []struct {
		why  string
		by   *Authority
		leaf Leaf
		at   time.Time
		made bool
	}{
		{"missing", ca, server, now, true},
		{"fits", ca, server, now, false},
		{"a month later", ca, server, now.Add(30 * 24 * time.Hour), false},
		{"near its end", ca, server, now.Add(300 * 24 * time.Hour), true},
		{"clock went back before it began", ca, server, now, true},
		{"a new name", ca, more, now, true},
		{"a new organization", ca, renamed, now, true},
		{"another authority", other, renamed, now, true},
	} {
		if got := ensure(step.by, step.leaf, step.at); got != step.made {
			t.Errorf("%s: made %v, want %v", step.why, got, step.made)
		}
	}
}
