package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/pelletier/go-toml/v2"
)

// config is gateway.toml as the chart writes it. Other keys are not an error.
type config struct {
	Gateway struct {
		TLS  tlsFiles `toml:"tls"`
		Auth struct {
			AllowUnauthenticatedUsers bool `toml:"allow_unauthenticated_users"`
		} `toml:"auth"`
		MTLSAuth struct {
			Enabled bool `toml:"enabled"`
		} `toml:"mtls_auth"`
		OIDC oidcSettings `toml:"oidc"`
		JWT  struct {
			SigningKeyPath string `toml:"signing_key_path"`
			PublicKeyPath  string `toml:"public_key_path"`
			KidPath        string `toml:"kid_path"`
			GatewayID      string `toml:"gateway_id"`
			TTLSecs        int64  `toml:"ttl_secs"`
		} `toml:"gateway_jwt"`
	} `toml:"gateway"`
	Drivers struct {
		Kubernetes driverSettings `toml:"kubernetes"`
	} `toml:"drivers"`
}

type tlsFiles struct {
	CertPath     string `toml:"cert_path"`
	KeyPath      string `toml:"key_path"`
	ClientCAPath string `toml:"client_ca_path"`
}

type oidcSettings struct {
	Issuer      string `toml:"issuer"`
	Audience    string `toml:"audience"`
	CAPath      string `toml:"ca_path"`
	JwksTTLSecs int64  `toml:"jwks_ttl_secs"`
	RolesClaim  string `toml:"roles_claim"`
	AdminRole   string `toml:"admin_role"`
	UserRole    string `toml:"user_role"`
}

type driverSettings struct {
	Namespace              string `toml:"namespace"`
	ServiceAccount         string `toml:"service_account_name"`
	SandboxImage           string `toml:"sandbox_image"`
	SandboxImagePullPolicy string `toml:"sandbox_image_pull_policy"`
	SupervisorImage        string `toml:"supervisor_image"`
	SupervisorPullPolicy   string `toml:"supervisor_image_pull_policy"`
	SideloadMethod         string `toml:"supervisor_sideload_method"`
	GatewayEndpoint        string `toml:"grpc_endpoint"`
	ClientTLSSecret        string `toml:"client_tls_secret_name"`
	HostGatewayIP          string `toml:"host_gateway_ip"`
	WorkspaceSize          string `toml:"workspace_size"`
}

func (c *config) hasOIDC() bool { return c.Gateway.OIDC.Issuer != "" }

func readConfig(path string) (*config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var file struct {
		OpenShell config `toml:"openshell"`
	}
	if err := toml.Unmarshal(text, &file); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	c := &file.OpenShell
	if c.Gateway.MTLSAuth.Enabled {
		return nil, errors.New("mTLS user authentication is not supported with the Kubernetes compute driver")
	}
	if c.hasOIDC() && c.Gateway.OIDC.Audience == "" {
		c.Gateway.OIDC.Audience = "openshell-cli"
	}
	return c, nil
}
