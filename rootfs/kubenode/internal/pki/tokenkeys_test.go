package pki

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"testing"
)

func rsaText(t *testing.T, bits int) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

func TestEnsureTokenKeysMakesOneRSAKeyAndKeepsIt(t *testing.T) {
	path := filepath.Join(t.TempDir(), "service.key")
	first, err := EnsureTokenKeys(path)
	if err != nil || len(first) != 1 {
		t.Fatalf("%d keys, %v", len(first), err)
	}
	made := first[0].(*rsa.PrivateKey)
	if made.N.BitLen() != 2048 {
		t.Errorf("%d bits", made.N.BitLen())
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	again, err := EnsureTokenKeys(path)
	if err != nil || len(again) != 1 || !made.Equal(again[0]) {
		t.Errorf("another key: %v", err)
	}
}

func TestEnsureTokenKeysKeepsAnECKeyBehindANewRSAKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "service.key")
	old, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if err := writeKey(path, old); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		keys, err := EnsureTokenKeys(path)
		if err != nil || len(keys) != 2 || !old.Equal(keys[1]) {
			t.Fatalf("%d keys, %v", len(keys), err)
		}
		if _, ok := keys[0].(*rsa.PrivateKey); !ok {
			t.Errorf("a %T signs", keys[0])
		}
	}
}

func TestEnsureTokenKeysRefusesAFileItCannotRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "service.key")
	if err := os.WriteFile(path, []byte("noise"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := EnsureTokenKeys(path); err == nil {
		t.Error("a broken file was replaced silently")
	}
}

func TestAddTokenKeyPutsTheNewKeyInFront(t *testing.T) {
	path := filepath.Join(t.TempDir(), "service.key")
	before, err := EnsureTokenKeys(path)
	if err != nil {
		t.Fatal(err)
	}
	text := rsaText(t, 2048)
	for range 2 { // a second time changes nothing
		after, err := AddTokenKey(path, text)
		if err != nil || len(after) != 2 {
			t.Fatalf("%d keys, %v", len(after), err)
		}
		if before[0].(*rsa.PrivateKey).Equal(after[0]) || !before[0].(*rsa.PrivateKey).Equal(after[1]) {
			t.Error("the old key is not behind the new one")
		}
	}
	stored, err := EnsureTokenKeys(path)
	if err != nil || len(stored) != 2 {
		t.Errorf("%d keys in the file, %v", len(stored), err)
	}
	for range 12 {
		if stored, err = AddTokenKey(path, rsaText(t, 2048)); err != nil {
			t.Fatal(err)
		}
	}
	if len(stored) != keptTokenKeys {
		t.Errorf("%d keys are kept", len(stored))
	}
}

func TestAddTokenKeyRefusesWhatIsNoKeyOfItsKind(t *testing.T) {
	path := filepath.Join(t.TempDir(), "service.key")
	if _, err := EnsureTokenKeys(path); err != nil {
		t.Fatal(err)
	}
	before, _ := os.ReadFile(path)
	ec, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(ec)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{
		"nothing":  nil,
		"noise":    []byte("noise"),
		"two keys": append(rsaText(t, 2048), rsaText(t, 2048)...),
		"short":    rsaText(t, 1024),
		"EC":       pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
	} {
		if _, err := AddTokenKey(path, text); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if after, _ := os.ReadFile(path); string(after) != string(before) {
		t.Error("the file changed")
	}
}
