package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/pem"
	"strings"
	"testing"
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
