package pki

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
)

const (
	// tokenKeyBits is what k3s takes. OpenID Connect's clients must know RS256; not all of them know ES256.
	tokenKeyBits = 2048
	// keptTokenKeys bounds a file of keys that grows with each generation of clones.
	keptTokenKeys = 8
)

// EnsureTokenKeys reads the keys of service account tokens: the first one signs, the others only verify tokens that were
// signed before. It makes an RSA key when there is none, or puts one in front of a key that cannot make RS256.
func EnsureTokenKeys(path string) ([]crypto.Signer, error) {
	keys, err := readTokenKeys(path)
	if err != nil {
		return nil, err
	}
	if len(keys) > 0 {
		if _, ok := keys[0].(*rsa.PrivateKey); ok {
			return keys, nil
		}
	}
	made, err := rsa.GenerateKey(rand.Reader, tokenKeyBits)
	if err != nil {
		return nil, err
	}
	return addTokenKey(path, made, keys)
}

// AddTokenKey puts the one RSA key that text holds in front of those in the file, so that it signs from now on. A key that
// is in front already changes nothing.
func AddTokenKey(path string, text []byte) ([]crypto.Signer, error) {
	added, err := parseTokenKeys(text)
	if err != nil {
		return nil, err
	}
	if len(added) != 1 {
		return nil, fmt.Errorf("it holds %d private keys, not one", len(added))
	}
	made, ok := added[0].(*rsa.PrivateKey)
	if !ok || made.N.BitLen() < tokenKeyBits {
		return nil, fmt.Errorf("it is not an RSA key of at least %d bits", tokenKeyBits)
	}
	keys, err := readTokenKeys(path)
	if err != nil {
		return nil, err
	}
	if len(keys) > 0 && made.Equal(keys[0]) {
		return keys, nil
	}
	return addTokenKey(path, made, keys)
}

// readTokenKeys gives the keys of a file, none where there is no file.
func readTokenKeys(path string) ([]crypto.Signer, error) {
	data, err := read(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	keys, err := parseTokenKeys(data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return keys, nil
}

func addTokenKey(path string, made *rsa.PrivateKey, keys []crypto.Signer) ([]crypto.Signer, error) {
	all := append([]crypto.Signer{made}, keys...)
	all = all[:min(len(all), keptTokenKeys)]
	var out bytes.Buffer
	for _, key := range all {
		block, err := tokenKeyBlock(key)
		if err != nil {
			return nil, err
		}
		if err := pem.Encode(&out, block); err != nil {
			return nil, err
		}
	}
	return all, WriteFile(path, out.Bytes(), 0o600)
}

// tokenKeyBlock writes each kind of key in the form that Kubernetes' own reader of key files knows.
func tokenKeyBlock(key crypto.Signer) (*pem.Block, error) {
	switch key := key.(type) {
	case *rsa.PrivateKey:
		return &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}, nil
	case *ecdsa.PrivateKey:
		der, err := x509.MarshalECPrivateKey(key)
		return &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}, err
	default:
		return nil, fmt.Errorf("a key of type %T cannot sign tokens", key)
	}
}

// parseTokenKeys reads every private key of a PEM text. Its errors never quote the text.
func parseTokenKeys(data []byte) ([]crypto.Signer, error) {
	var keys []crypto.Signer
	for rest := bytes.TrimSpace(data); len(rest) > 0; rest = bytes.TrimSpace(rest) {
		block, after := pem.Decode(rest)
		if block == nil {
			return nil, errors.New("it holds something that is not a key in PEM")
		}
		rest = after
		key, err := parseTokenKey(block)
		if err != nil {
			return nil, err
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func parseTokenKey(block *pem.Block) (crypto.Signer, error) {
	switch block.Type {
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	case "PRIVATE KEY":
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		if signer, ok := key.(crypto.Signer); ok {
			return signer, nil
		}
	}
	return nil, errors.New("it holds something that is not a private key")
}
