package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"gateway.local/standin/wire"
)

// gatewayFiles is one folder of $XDG_CONFIG_HOME/openshell/gateways.
type gatewayFiles struct {
	name     string
	dir      string
	metadata struct {
		Endpoint string `json:"gateway_endpoint"`
		AuthMode string `json:"auth_mode"`
		Issuer   string `json:"oidc_issuer"`
		ClientID string `json:"oidc_client_id"`
		Audience string `json:"oidc_audience"`
	}
}

// readGateway reads the named gateway's files, else those of OPENSHELL_GATEWAY, else those of the active one.
func readGateway(name string) (*gatewayFiles, error) {
	config := os.Getenv("XDG_CONFIG_HOME")
	if config == "" {
		config = filepath.Join(os.Getenv("HOME"), ".config")
	}
	config = filepath.Join(config, "openshell")
	if name == "" {
		name = os.Getenv("OPENSHELL_GATEWAY")
	}
	if name == "" {
		text, err := os.ReadFile(filepath.Join(config, "active_gateway"))
		if err != nil {
			return nil, errors.New("No active gateway.")
		}
		name = strings.TrimSpace(string(text))
	}
	g := &gatewayFiles{name: name, dir: filepath.Join(config, "gateways", name)}
	text, err := os.ReadFile(filepath.Join(g.dir, "metadata.json"))
	if err != nil {
		return nil, fmt.Errorf("Unknown gateway '%s'.", name)
	}
	if err := json.Unmarshal(text, &g.metadata); err != nil {
		return nil, fmt.Errorf("metadata.json of gateway '%s': %w", name, err)
	}
	return g, nil
}

// connect trusts the gateway's own CA; its certificate for clients may be missing where a token is the login.
func (g *gatewayFiles) connect() (*grpc.ClientConn, error) {
	mtls := filepath.Join(g.dir, "mtls")
	authority, err := os.ReadFile(filepath.Join(mtls, "ca.crt"))
	if err != nil {
		return nil, err
	}
	config := &tls.Config{RootCAs: x509.NewCertPool()}
	if !config.RootCAs.AppendCertsFromPEM(authority) {
		return nil, errors.New("no certificate in mtls/ca.crt")
	}
	certificate, err := tls.LoadX509KeyPair(filepath.Join(mtls, "tls.crt"), filepath.Join(mtls, "tls.key"))
	if err == nil {
		config.Certificates = []tls.Certificate{certificate}
	} else if !errors.Is(err, fs.ErrNotExist) || g.metadata.AuthMode != "oidc" {
		return nil, err
	}
	address, isTLS := strings.CutPrefix(g.metadata.Endpoint, "https://")
	if !isTLS {
		return nil, fmt.Errorf("gateway_endpoint %q is not https", g.metadata.Endpoint)
	}
	return grpc.NewClient(
		"dns:///"+address,
		grpc.WithTransportCredentials(credentials.NewTLS(config)),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(wire.Codec{})),
	)
}

// login adds the token of oidc_token.json to a call, where that is how this gateway knows its users.
func (g *gatewayFiles) login(ctx context.Context) (context.Context, error) {
	if g.metadata.AuthMode != "oidc" {
		return ctx, nil
	}
	text, err := os.ReadFile(filepath.Join(g.dir, "oidc_token.json"))
	if err != nil {
		return nil, fmt.Errorf("not logged in to gateway '%s': run openshell gateway login", g.name)
	}
	var token struct {
		AccessToken  string `json:"access_token"`
		RefreshToken string `json:"refresh_token"`
		ExpiresAt    int64  `json:"expires_at"`
		Issuer       string `json:"issuer"`
		ClientID     string `json:"client_id"`
	}
	if err := json.Unmarshal(text, &token); err != nil {
		return nil, fmt.Errorf("oidc_token.json: %w", err)
	}
	if token.AccessToken == "" || token.Issuer == "" || token.ClientID == "" {
		return nil, errors.New("oidc_token.json lacks access_token, issuer or client_id")
	}
	if token.ExpiresAt != 0 && time.Now().Unix() >= token.ExpiresAt {
		return nil, errors.New("the OIDC token has expired: run openshell gateway login")
	}
	return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token.AccessToken), nil
}
