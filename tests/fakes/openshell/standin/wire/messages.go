package wire

import (
	"errors"
	"io"
)

// The gateway's service, and the one that a sandbox's supervisor serves for the gateway alone.
const (
	Service           = "openshell.v1.OpenShell"
	SupervisorService = "openshell.standin.Supervisor"
	// SupervisorPort is where a supervisor listens in its sandbox.
	SupervisorPort = 2222
	// TokenAudience is what the token of a sandbox's ServiceAccount is meant for.
	TokenAudience = "openshell-gateway"
)

// Method is the path of a method of the gateway.
func Method(name string) string { return "/" + Service + "/" + name }

// Healthy is the status of a gateway that serves.
const Healthy = 1

type (
	Empty struct{}

	HealthAnswer struct {
		Status  int32  `pb:"1"`
		Version string `pb:"2"`
	}
	CurrentUser struct {
		Subject string   `pb:"1"`
		Roles   []string `pb:"3"`
		// How the caller is known: "mTLS transport" or "OIDC".
		Means string `pb:"5"`
	}
	Sandbox struct {
		ID    string `pb:"1"`
		Name  string `pb:"2"`
		Phase string `pb:"3"`
		// Why it is in its phase.
		Reason string `pb:"4"`
	}
	CreateRequest struct {
		Name    string   `pb:"1"`
		Image   string   `pb:"2"`
		Command []string `pb:"3"`
	}
	NameRequest struct {
		Name string `pb:"1"`
	}
	SandboxList struct {
		Sandboxes []Sandbox `pb:"1"`
	}
	DeleteAnswer struct {
		Deleted bool `pb:"1"`
	}
	ExecRequest struct {
		Name    string   `pb:"1"`
		Command []string `pb:"2"`
		Stdin   []byte   `pb:"3"`
	}
	ExecExit struct {
		Code int32 `pb:"1"`
	}
	// One piece of a program's output, or its end.
	ExecEvent struct {
		Stdout []byte    `pb:"1"`
		Stderr []byte    `pb:"2"`
		Exit   *ExecExit `pb:"3"`
	}
	Provider struct {
		Name string `pb:"1"`
		Type string `pb:"2"`
	}
	ProviderList struct {
		Providers []Provider `pb:"1"`
	}
	// What a supervisor gets for the token of its ServiceAccount. Session is what the gateway shows it in turn.
	SandboxToken struct {
		Token   string `pb:"1"`
		Session string `pb:"2"`
	}
	Policy struct {
		Version int32 `pb:"1"`
	}
)

// EndOfStream is nil for the end of a stream that went well.
func EndOfStream(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
