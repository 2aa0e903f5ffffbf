// Package pki makes and keeps the cluster's certificates: authorities at first start, leaf
// certificates when they are missing, near their end, or no longer say what they should.
// Keys of certificates are ECDSA P-256, made here in the guest, and never leave their directory.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"time"
)

const (
	authorityLife = 10 * 365 * 24 * time.Hour
	leafLife      = 365 * 24 * time.Hour
	// renewBefore is how long before its end a leaf certificate is made anew at start.
	renewBefore = 90 * 24 * time.Hour
	// backdate lets a clock that is behind still accept a fresh certificate.
	backdate = 24 * time.Hour
)

// Authority is a certificate with its key that signs leaf certificates.
type Authority struct {
	Cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// Leaf says what a certificate must contain; Names mixes DNS names and addresses.
type Leaf struct {
	CommonName    string
	Organizations []string
	Names         []string
	Server        bool
	Client        bool
}

// EnsureAuthority loads NAME.crt and NAME.key from dir or makes them.
func EnsureAuthority(dir, name string, now time.Time) (*Authority, error) {
	certPath, keyPath := filepath.Join(dir, name+".crt"), filepath.Join(dir, name+".key")
	cert, certErr := loadCert(certPath)
	key, keyErr := loadKey(keyPath)
	if certErr == nil && keyErr == nil && now.Before(cert.NotAfter) && key.PublicKey.Equal(cert.PublicKey) {
		return &Authority{Cert: cert, key: key}, nil
	}
	for _, err := range []error{certErr, keyErr} {
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return nil, fmt.Errorf("cannot use the authority %q: %w", name, err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: fmt.Sprintf("k3s-%s@%d", name, now.Unix())},
		NotBefore:             now.Add(-backdate),
		NotAfter:              now.Add(authorityLife),
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageCertSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
	}
	der, err := sign(template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	if cert, err = x509.ParseCertificate(der); err != nil {
		return nil, err
	}
	if err := writePair(certPath, keyPath, [][]byte{der}, key); err != nil {
		return nil, err
	}
	return &Authority{Cert: cert, key: key}, nil
}

// Ensure makes certPath and keyPath unless they already hold what l asks for, signed by a, for
// at least renewBefore more. It reports whether it wrote them.
func (a *Authority) Ensure(certPath, keyPath string, l Leaf, now time.Time) (bool, error) {
	if a.fits(certPath, keyPath, l, now) {
		return false, nil
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return false, err
	}
	template := &x509.Certificate{
		Subject:   pkix.Name{CommonName: l.CommonName, Organization: l.Organizations},
		NotBefore: now.Add(-backdate),
		NotAfter:  now.Add(leafLife),
		KeyUsage:  x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment,
	}
	if l.Server {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	if l.Client {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageClientAuth)
	}
	for _, name := range l.Names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := sign(template, a.Cert, &key.PublicKey, a.key)
	if err != nil {
		return false, fmt.Errorf("cannot sign the certificate of %q: %w", l.CommonName, err)
	}
	// The authority follows the leaf so that a client holding only the root's name can build the chain.
	return true, writePair(certPath, keyPath, [][]byte{der, a.Cert.Raw}, key)
}

func (a *Authority) fits(certPath, keyPath string, l Leaf, now time.Time) bool {
	cert, err := loadCert(certPath)
	if err != nil {
		return false
	}
	key, err := loadKey(keyPath)
	if err != nil || !key.PublicKey.Equal(cert.PublicKey) {
		return false
	}
	if cert.CheckSignatureFrom(a.Cert) != nil || now.Add(renewBefore).After(cert.NotAfter) || now.Before(cert.NotBefore) {
		return false
	}
	if cert.Subject.CommonName != l.CommonName || !slices.Equal(cert.Subject.Organization, l.Organizations) {
		return false
	}
	for _, name := range l.Names {
		if cert.VerifyHostname(name) != nil {
			return false
		}
	}
	return true
}

func sign(template, parent *x509.Certificate, public *ecdsa.PublicKey, signer crypto.Signer) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	return x509.CreateCertificate(rand.Reader, template, parent, public, signer)
}

// read takes an empty file for a missing one: that is what a crash right after the first start leaves.
func read(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err == nil && len(data) == 0 {
		return nil, os.ErrNotExist
	}
	return data, err
}

func loadCert(path string) (*x509.Certificate, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, fmt.Errorf("%s holds no certificate", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s holds no certificate: %w", path, err)
	}
	return cert, nil
}

func loadKey(path string) (*ecdsa.PrivateKey, error) {
	data, err := read(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "EC PRIVATE KEY" {
		return nil, fmt.Errorf("%s holds no EC private key", path)
	}
	key, err := x509.ParseECPrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s holds no EC private key: %w", path, err)
	}
	return key, nil
}

// writePair writes the key first: a crash between the two leaves a pair that does not fit and is made anew.
func writePair(certPath, keyPath string, chain [][]byte, key *ecdsa.PrivateKey) error {
	if err := writeKey(keyPath, key); err != nil {
		return err
	}
	var out []byte
	for _, der := range chain {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return WriteFile(certPath, out, 0o600)
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// WriteFile puts data at path by way of a temporary name, so that a reader and a crash see all or nothing.
func WriteFile(path string, data []byte, mode os.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	if err := tmp.Chmod(mode); err != nil {
		tmp.Close()
		return err
	}
	if _, err := tmp.Write(data); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
