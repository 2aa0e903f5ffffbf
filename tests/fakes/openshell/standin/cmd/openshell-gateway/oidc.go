package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
)

// oidc checks users' tokens against the keys of one issuer.
type oidc struct {
	settings oidcSettings
	client   *http.Client
	mu       sync.Mutex
	keys     jose.JSONWebKeySet
	fetched  time.Time
}

// newOIDC asks the issuer for its keys at once: a gateway whose issuer does not answer ends, as the real one does.
func newOIDC(ctx context.Context, settings oidcSettings) (*oidc, error) {
	transport := &http.Transport{}
	if settings.CAPath != "" {
		text, err := os.ReadFile(settings.CAPath)
		if err != nil {
			return nil, err
		}
		pool := x509.NewCertPool()
		if !pool.AppendCertsFromPEM(text) {
			return nil, errors.New("no certificate in " + settings.CAPath)
		}
		transport.TLSClientConfig = &tls.Config{RootCAs: pool}
	}
	o := &oidc{settings: settings, client: &http.Client{Transport: transport, Timeout: 20 * time.Second}}
	if err := o.fetch(ctx); err != nil {
		return nil, fmt.Errorf("cannot get the issuer's keys: %w", err)
	}
	return o, nil
}

// check gives the user that a token stands for.
func (o *oidc) check(ctx context.Context, token string) (*principal, error) {
	parsed, err := jwt.ParseSigned(token, []jose.SignatureAlgorithm{jose.RS256})
	if err != nil {
		return nil, fmt.Errorf("invalid token: %w", err)
	}
	kid := parsed.Headers[0].KeyID
	if kid == "" {
		return nil, errors.New("invalid token: no kid in its header")
	}
	key, err := o.key(ctx, kid)
	if err != nil {
		return nil, err
	}
	var claims jwt.Claims
	all := map[string]any{}
	if err := parsed.Claims(key, &claims, &all); err != nil {
		return nil, fmt.Errorf("invalid token: %w", err)
	}
	if claims.Expiry == nil {
		return nil, errors.New("invalid token: no exp")
	}
	expected := jwt.Expected{
		Issuer: o.settings.Issuer, AnyAudience: jwt.Audience{o.settings.Audience}, Time: time.Now(),
	}
	if err := claims.Validate(expected); err != nil {
		return nil, fmt.Errorf("invalid token: %w", err)
	}
	return o.user(claims.Subject, all)
}

// user gives the roles of a token; with no role configured whoever has a good token may do everything.
func (o *oidc) user(subject string, claims map[string]any) (*principal, error) {
	user := &principal{subject: subject, means: "OIDC"}
	if o.settings.AdminRole == "" && o.settings.UserRole == "" {
		user.roles = []string{"openshell-admin", "openshell-user"}
		return user, nil
	}
	var value any = claims
	for _, part := range strings.Split(o.settings.RolesClaim, ".") {
		object, _ := value.(map[string]any)
		value = object[part]
	}
	held, _ := value.([]any)
	if slices.Contains(held, any(o.settings.AdminRole)) {
		user.roles = []string{"openshell-admin", "openshell-user"}
	} else if slices.Contains(held, any(o.settings.UserRole)) {
		user.roles = []string{"openshell-user"}
	} else {
		return nil, errors.New("the token has none of the roles")
	}
	return user, nil
}

// key finds a key of the issuer, which is asked anew when its keys are old or lack this one.
func (o *oidc) key(ctx context.Context, kid string) (any, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	ttl := time.Duration(max(o.settings.JwksTTLSecs, 1)) * time.Second
	if time.Since(o.fetched) < ttl {
		if found := o.keys.Key(kid); len(found) > 0 {
			return found[0], nil
		}
	}
	if err := o.fetch(ctx); err != nil {
		return nil, fmt.Errorf("cannot get the issuer's keys: %w", err)
	}
	if found := o.keys.Key(kid); len(found) > 0 {
		return found[0], nil
	}
	return nil, fmt.Errorf("invalid token: the issuer has no key %q", kid)
}

func (o *oidc) fetch(ctx context.Context) error {
	var about struct {
		Issuer  string `json:"issuer"`
		JwksURI string `json:"jwks_uri"`
	}
	if err := o.get(ctx, o.settings.Issuer+"/.well-known/openid-configuration", &about); err != nil {
		return err
	}
	if about.Issuer != o.settings.Issuer {
		return fmt.Errorf("the issuer calls itself %q instead of %q", about.Issuer, o.settings.Issuer)
	}
	if origin(about.JwksURI) != origin(o.settings.Issuer) {
		return fmt.Errorf("jwks_uri %q is not of the issuer's origin", about.JwksURI)
	}
	var keys jose.JSONWebKeySet
	if err := o.get(ctx, about.JwksURI, &keys); err != nil {
		return err
	}
	o.keys, o.fetched = keys, time.Now()
	return nil
}

func (o *oidc) get(ctx context.Context, address string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	response, err := o.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", address, response.Status)
	}
	return json.NewDecoder(io.LimitReader(response.Body, 1<<20)).Decode(into)
}

// origin is scheme, host and port, the port always written out.
func origin(address string) string {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return ""
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"https": "443", "http": "80"}[u.Scheme]
	}
	return u.Scheme + "://" + u.Hostname() + ":" + port
}
