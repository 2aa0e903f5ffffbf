package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// FuzzParseTokenKeys: keys are read or refused, and no error quotes what was in the file.
func FuzzParseTokenKeys(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	block, err := tokenKeyBlock(crypto.Signer(key))
	if err != nil {
		f.Fatal(err)
	}
	one := pem.EncodeToMemory(block)
	f.Add(one)
	f.Add(bytes.Repeat(one, 3))
	f.Add(bytes.Replace(one, []byte("EC PRIVATE"), []byte("RSA PRIVATE"), 2))
	f.Add([]byte("-----BEGIN PRIVATE KEY-----\nc2VjcmV0IHdvcmRz\n-----END PRIVATE KEY-----\n"))
	f.Add([]byte("secret words"))
	f.Fuzz(func(t *testing.T, data []byte) {
		keys, err := parseTokenKeys(data)
		if err != nil {
			for _, line := range strings.Split(string(data), "\n") {
				if len(line) > 20 && strings.Contains(err.Error(), line) {
					t.Fatalf("the error quotes the file: %v", err)
				}
			}
			return
		}
		for _, key := range keys {
			if key == nil || key.Public() == nil {
				t.Fatal("a key that is nothing")
			}
		}
	})
}

// FuzzEnsureAuthority: an authority whose two files hold anything is used, made anew or refused with the file's name.
func FuzzEnsureAuthority(f *testing.F) {
	dir := f.TempDir()
	now := time.Now()
	if _, err := EnsureAuthority(dir, "ca", now); err != nil {
		f.Fatal(err)
	}
	var pair [2][]byte
	for i, name := range []string{"ca.crt", "ca.key"} {
		var err error
		if pair[i], err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			f.Fatal(err)
		}
	}
	f.Add(pair[0], pair[1])
	f.Add(pair[0], []byte{})
	f.Add(pair[1], pair[0])
	f.Add([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), pair[1])
	f.Add(pair[0], []byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----\n"))
	f.Fuzz(func(t *testing.T, cert, key []byte) {
		dir := t.TempDir()
		for name, data := range map[string][]byte{"ca.crt": cert, "ca.key": key} {
			if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		authority, err := EnsureAuthority(dir, "ca", now)
		if err != nil {
			if !strings.Contains(err.Error(), filepath.Join(dir, "ca.")) {
				t.Fatalf("the error names no file: %v", err)
			}
			return
		}
		if _, err := authority.Ensure(filepath.Join(dir, "a.crt"), filepath.Join(dir, "a.key"), Leaf{CommonName: "a"}, now); err != nil {
			t.Fatalf("it signs nothing: %v", err)
		}
	})
}
