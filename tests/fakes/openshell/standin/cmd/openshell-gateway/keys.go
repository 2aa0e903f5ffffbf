package main

import (
	"crypto"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log"
	"os"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// sandboxKeys sign and check the tokens of sandboxes. They are read at the start and never again.
type sandboxKeys struct {
	signer jose.Signer
	public crypto.PublicKey
	kid    string
	issuer string
	ttl    time.Duration
}

func loadSandboxKeys(c *config) (*sandboxKeys, error) {
	settings := c.Gateway.JWT
	signing, err := readPEM(settings.SigningKeyPath)
	if err != nil {
		return nil, err
	}
	private, err := x509.ParsePKCS8PrivateKey(signing)
	if err != nil {
		return nil, err
	}
	open, err := readPEM(settings.PublicKeyPath)
	if err != nil {
		return nil, err
	}
	public, err := x509.ParsePKIXPublicKey(open)
	if err != nil {
		return nil, err
	}
	key, isEd25519 := private.(ed25519.PrivateKey)
	if !isEd25519 || !key.Public().(ed25519.PublicKey).Equal(public) {
		return nil, errors.New("the sandbox JWT keys are not an Ed25519 pair")
	}
	kid, err := os.ReadFile(settings.KidPath)
	if err != nil {
		return nil, err
	}
	k := &sandboxKeys{
		public: public, kid: strings.TrimSpace(string(kid)),
		issuer: "openshell-gateway:" + settings.GatewayID, ttl: time.Duration(settings.TTLSecs) * time.Second,
	}
	k.signer, err = jose.NewSigner(
		jose.SigningKey{Algorithm: jose.EdDSA, Key: key},
		(&jose.SignerOptions{}).WithType("JWT").WithHeader("kid", k.kid),
	)
	log.Printf("gateway-minted sandbox JWT enabled gateway_id=%s ttl_secs=%d", settings.GatewayID, settings.TTLSecs)
	return k, err
}

func readPEM(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s is not PEM", path)
	}
	return block.Bytes, nil
}

func (k *sandboxKeys) mint(sandboxID string) (string, error) {
	now := time.Now()
	return jwt.Signed(k.signer).Claims(jwt.Claims{
		Issuer: k.issuer, Subject: sandboxID, Audience: jwt.Audience{k.issuer},
		IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(k.ttl)),
	}).Serialize()
}

// isOurs tells a token of a sandbox, good or bad, from one of a user.
func (k *sandboxKeys) isOurs(token string) bool {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA})
	return err == nil && parsed.Headers[0].KeyID == k.kid
}

func (k *sandboxKeys) check(token string) (*principal, error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.EdDSA})
	if err != nil {
		return nil, err
	}
	var claims jwt.Claims
	if err := parsed.Claims(k.public, &claims); err != nil {
		return nil, err
	}
	expected := jwt.Expected{Issuer: k.issuer, AnyAudience: jwt.Audience{k.issuer}, Time: time.Now()}
	if err := claims.Validate(expected); err != nil {
		return nil, err
	}
	return &principal{subject: claims.Subject, sandbox: true, means: "sandbox token"}, nil
}
