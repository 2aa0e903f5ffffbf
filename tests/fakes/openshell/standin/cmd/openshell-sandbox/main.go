// Command openshell-sandbox stands for OpenShell's supervisor in tests: it comes into a sandbox's pod as an image volume,
// is the pod's first process, makes itself known to the gateway, and runs programs for it as the sandbox's user.
package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"

	"gateway.local/standin/wire"
)

const (
	attempts       = 5
	attemptTimeout = 10 * time.Second
	workspace      = "/sandbox"
	// The sandbox's user and group.
	sandboxID = 1000
)

func main() {
	log.SetFlags(0)
	if len(os.Args) == 3 && os.Args[1] == "--copy-self" {
		if err := copySelf(os.Args[2]); err != nil {
			log.Fatalf("Error: %v", err)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	token, err := enroll(ctx)
	if err != nil {
		log.Fatalf("Policy fetch failed after %d attempts: failed to connect to OpenShell server: %v", attempts, err)
	}
	if err := prepare(); err != nil {
		log.Fatalf("Error: %v", err)
	}
	ended := make(chan error, 2)
	go func() { ended <- serve(token.Session) }()
	if len(os.Args) > 1 {
		go func() { ended <- mainProcess(os.Args[1:]) }()
	}
	select {
	case err := <-ended:
		if err != nil {
			log.Fatalf("Error: %v", err)
		}
	case <-ctx.Done():
	}
}

// prepare gives the workspace to the sandbox's user, and takes the way to more rights from all it starts.
func prepare() error {
	if err := os.Chown(workspace, sandboxID, sandboxID); err != nil {
		return err
	}
	const setNoNewPrivs = 38
	if _, _, errno := syscall.AllThreadsSyscall(syscall.SYS_PRCTL, setNoNewPrivs, 1, 0); errno != 0 {
		return fmt.Errorf("no_new_privs: %w", errno)
	}
	return nil
}

// enroll exchanges the ServiceAccount's token for one of the gateway's and fetches the policy; it gives up after a few
// attempts, and then the sandbox is over.
func enroll(ctx context.Context) (token *wire.SandboxToken, err error) {
	for attempt := range attempts {
		if attempt > 0 {
			pause := time.Duration(1<<attempt) * time.Second
			log.Printf("Policy fetch failed: %v; again in %s", err, pause)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		if token, err = enrollOnce(ctx); err == nil {
			log.Print("policy fetched")
			return token, nil
		}
	}
	return nil, err
}

func enrollOnce(ctx context.Context) (*wire.SandboxToken, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	gateway, err := dial(os.Getenv("OPENSHELL_ENDPOINT"), os.Getenv("OPENSHELL_TLS_DIR"))
	if err != nil {
		return nil, err
	}
	defer gateway.Close()
	account, err := os.ReadFile(os.Getenv("OPENSHELL_K8S_SA_TOKEN_FILE"))
	if err != nil {
		return nil, err
	}
	as := func(token string) context.Context {
		return metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	issued, err := wire.Call[wire.SandboxToken](
		as(strings.TrimSpace(string(account))), gateway, wire.Method("IssueSandboxToken"), &wire.Empty{})
	if err != nil {
		return nil, err
	}
	_, err = wire.Call[wire.Policy](as(issued.Token), gateway, wire.Method("GetSandboxPolicy"), &wire.Empty{})
	return issued, err
}

func dial(endpoint, dir string) (*grpc.ClientConn, error) {
	certificate, err := tls.LoadX509KeyPair(filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key"))
	if err != nil {
		return nil, err
	}
	authority, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(authority)
	return grpc.NewClient(
		"dns:///"+strings.TrimPrefix(endpoint, "https://"),
		grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{
			RootCAs: pool, Certificates: []tls.Certificate{certificate},
		})),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(wire.Codec{})),
	)
}

// mainProcess runs the command that the sandbox was made with; its end is the sandbox's.
func mainProcess(words []string) error {
	program := inSandbox(context.Background(), words)
	program.Stdout, program.Stderr = os.Stdout, os.Stderr
	return program.Run()
}

// inSandbox is a program as the sandbox's user runs it.
func inSandbox(ctx context.Context, words []string) *exec.Cmd {
	program := exec.CommandContext(ctx, words[0], words[1:]...)
	program.Dir = workspace
	program.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + workspace, "USER=sandbox"}
	program.SysProcAttr = &syscall.SysProcAttr{
		Setpgid:    true,
		Credential: &syscall.Credential{Uid: sandboxID, Gid: sandboxID, Groups: []uint32{sandboxID}},
	}
	program.WaitDelay = 5 * time.Second
	return program
}

func copySelf(path string) error {
	from, err := os.Open("/proc/self/exe")
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	if _, err := io.Copy(to, from); err != nil {
		return err
	}
	return to.Close()
}
