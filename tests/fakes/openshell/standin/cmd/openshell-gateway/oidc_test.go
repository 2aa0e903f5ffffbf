package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"google.golang.org/grpc/codes"

	"gateway.local/standin/wire"
)

// issuer is the pages of one issuer.
type issuer struct {
	server  *httptest.Server
	key     *rsa.PrivateKey
	name    string
	jwksURI string
}

func newIssuer(t *testing.T) *issuer {
	i := &issuer{key: must(rsa.GenerateKey(rand.Reader, 2048))}
	mux := http.NewServeMux()
	mux.HandleFunc("/.well-known/openid-configuration", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]string{"issuer": i.name, "jwks_uri": i.jwksURI})
	})
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(jose.JSONWebKeySet{Keys: []jose.JSONWebKey{
			{Key: i.key.Public(), KeyID: "k1", Algorithm: "RS256", Use: "sig"},
		}})
	})
	i.server = httptest.NewTLSServer(mux)
	t.Cleanup(i.server.Close)
	i.name, i.jwksURI = i.server.URL, i.server.URL+"/keys"
	return i
}

// token signs claims; change edits what is right.
func (i *issuer) token(change func(claims *jwt.Claims, header map[jose.HeaderKey]any, key *any)) string {
	claims := jwt.Claims{
		Issuer: i.server.URL, Subject: "someone", Audience: jwt.Audience{"openshell-cli"},
		Expiry: jwt.NewNumericDate(time.Now().Add(time.Hour)),
	}
	header := map[jose.HeaderKey]any{"kid": "k1"}
	var key any = i.key
	if change != nil {
		change(&claims, header, &key)
	}
	algorithm := jose.RS256
	if _, isEC := key.(*ecdsa.PrivateKey); isEC {
		algorithm = jose.ES256
	}
	options := &jose.SignerOptions{ExtraHeaders: header}
	signer := must(jose.NewSigner(jose.SigningKey{Algorithm: algorithm, Key: key.(crypto.Signer)}, options))
	return must(jwt.Signed(signer).Claims(claims).Serialize())
}

// caFile is the file with the certificate of an issuer's server.
func (i *issuer) caFile(t *testing.T) string {
	files := &place{t: t, dir: t.TempDir()}
	files.write("ca.crt", toPEM("CERTIFICATE", i.server.Certificate().Raw))
	return files.dir + "/ca.crt"
}

func oidcPlace(t *testing.T, i *issuer, ca *authority) *place {
	return newPlace(t, ca, fmt.Sprintf(
		"[openshell.gateway.oidc]\nissuer = %q\njwks_ttl_secs = 60\nca_path = %q\n", i.server.URL, i.caFile(t)))
}

func TestATokenOfTheIssuerIsALoginAndNothingElseIs(t *testing.T) {
	ca, i := newAuthority(t), newIssuer(t)
	to := oidcPlace(t, i, ca).dial(clientTLS(ca, false))
	who, err := currentUser(t, to, i.token(nil))
	if err != nil || who.Subject != "someone" || who.Roles[0] != "openshell-admin" {
		t.Fatal(who, err)
	}
	other := must(rsa.GenerateKey(rand.Reader, 2048))
	type change = func(claims *jwt.Claims, header map[jose.HeaderKey]any, key *any)
	for name, change := range map[string]change{
		"expired": func(c *jwt.Claims, _ map[jose.HeaderKey]any, _ *any) {
			c.Expiry = jwt.NewNumericDate(time.Now().Add(-2 * time.Minute))
		},
		"no exp":         func(c *jwt.Claims, _ map[jose.HeaderKey]any, _ *any) { c.Expiry = nil },
		"other audience": func(c *jwt.Claims, _ map[jose.HeaderKey]any, _ *any) { c.Audience = jwt.Audience{"x"} },
		"other issuer":   func(c *jwt.Claims, _ map[jose.HeaderKey]any, _ *any) { c.Issuer += "/" },
		"no kid":         func(_ *jwt.Claims, h map[jose.HeaderKey]any, _ *any) { delete(h, "kid") },
		"unknown kid":    func(_ *jwt.Claims, h map[jose.HeaderKey]any, _ *any) { h["kid"] = "k2" },
		"other key":      func(_ *jwt.Claims, _ map[jose.HeaderKey]any, key *any) { *key = other },
		"not RS256": func(_ *jwt.Claims, _ map[jose.HeaderKey]any, key *any) {
			*key = must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := currentUser(t, to, i.token(change))
			assertStatus(t, err, codes.Unauthenticated, "invalid token")
		})
	}
	_, err = currentUser(t, to, "")
	assertStatus(t, err, codes.Unauthenticated, "missing authorization header")
}

func TestWithOIDCAClientCertificateIsOptionalButChecked(t *testing.T) {
	ca, i := newAuthority(t), newIssuer(t)
	p := oidcPlace(t, i, ca)
	if _, err := currentUser(t, p.dial(clientTLS(ca, true)), i.token(nil)); err != nil {
		t.Error(err)
	}
	foreign := clientTLS(ca, true)
	foreign.Certificates = clientTLS(newAuthority(t), false).Certificates
	// The client learns only by its first read that it was refused.
	_, err := wire.Call[wire.HealthAnswer](t.Context(), p.dial(foreign), wire.Method("Health"), &wire.Empty{})
	assertStatus(t, err, codes.Unavailable, "")
}

func TestTheGatewayEndsWhereItsIssuerIsNotAsItShouldBe(t *testing.T) {
	for why, change := range map[string]func(*issuer){
		"calls itself":               func(i *issuer) { i.name += "/" },
		"not of the issuer's origin": func(i *issuer) { i.jwksURI = "https://127.0.0.1:1/keys" },
		"connection refused":         func(i *issuer) { i.server.Close() },
	} {
		i := newIssuer(t)
		change(i)
		_, err := newOIDC(t.Context(), oidcSettings{Issuer: i.server.URL, CAPath: i.caFile(t)})
		if err == nil || !strings.Contains(err.Error(), why) {
			t.Errorf("%s: %v", why, err)
		}
	}
}

func TestRolesLimitWhoMayLogIn(t *testing.T) {
	o := &oidc{settings: oidcSettings{RolesClaim: "realm.roles", AdminRole: "a", UserRole: "u"}}
	claims := func(role string) map[string]any {
		return map[string]any{"realm": map[string]any{"roles": []any{role}}}
	}
	if _, err := o.user("s", claims("x")); err == nil {
		t.Error("a token without a role is taken")
	}
	if user := must(o.user("s", claims("u"))); len(user.roles) != 1 {
		t.Error(user.roles)
	}
}
