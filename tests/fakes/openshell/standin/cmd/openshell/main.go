// Command openshell stands for OpenShell's client in tests: it reads the same files, and does on the wire what a user's
// day needs. Its words about a refused login are those of the real one.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gateway.local/standin/wire"
)

const (
	callTimeout = 60 * time.Second
	// A sandbox's first start takes minutes where processors are emulated.
	readyTimeout = 15 * time.Minute
	lookEvery    = time.Second
)

// exitCode ends the program with the code of a program in a sandbox.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	err := run(ctx, os.Args[1:])
	var code exitCode
	switch {
	case err == nil:
	case errors.As(err, &code):
		os.Exit(int(code))
	default:
		fmt.Fprintln(os.Stderr, "Error: "+describe(err))
		os.Exit(1)
	}
}

var errUsage = errors.New("usage: openshell [-g GATEWAY] status|whoami|sandbox create|exec|list|get|delete|provider create|list")

func run(ctx context.Context, words []string) error {
	name := ""
	if len(words) > 1 && (words[0] == "-g" || words[0] == "--gateway") {
		name, words = words[1], words[2:]
	}
	if len(words) == 0 {
		return errUsage
	}
	gateway, err := readGateway(name)
	if err != nil {
		return err
	}
	c, err := gateway.connect()
	if err != nil {
		return err
	}
	defer c.Close()
	user := &user{gateway: gateway, conn: c}
	commands := map[string]func(context.Context, []string) error{
		"status": user.status, "whoami": user.whoami,
		"sandbox create": user.create, "sandbox exec": user.exec, "sandbox list": user.list,
		"sandbox get": user.get, "sandbox delete": user.delete,
		"provider create": user.createProvider, "provider list": user.listProviders,
	}
	for count := 1; count <= min(2, len(words)); count++ {
		if command, found := commands[strings.Join(words[:count], " ")]; found {
			return command(ctx, words[count:])
		}
	}
	return errUsage
}

// user is who calls one gateway.
type user struct {
	gateway *gatewayFiles
	conn    *grpc.ClientConn
}

// as adds the login to a call.
func (u *user) as(ctx context.Context) (context.Context, error) { return u.gateway.login(ctx) }

// call makes one call with the user's login.
func call[Answer any](ctx context.Context, u *user, method string, request any) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	ctx, err := u.as(ctx)
	if err != nil {
		return nil, err
	}
	return wire.Call[Answer](ctx, u.conn, wire.Method(method), request)
}

func (u *user) status(ctx context.Context, _ []string) error {
	bounded, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	health, err := wire.Call[wire.HealthAnswer](bounded, u.conn, wire.Method("Health"), &wire.Empty{})
	fmt.Printf("Server Status\n\n  Gateway: %s\n  Server: %s\n", u.gateway.name, u.gateway.metadata.Endpoint)
	if err != nil {
		fmt.Printf("  Status: Disconnected\n  Error: %s\n", describe(err))
		return exitCode(1)
	}
	if health.Status != wire.Healthy {
		fmt.Printf("  Status: Unhealthy (%d)\n", health.Status)
		return exitCode(1)
	}
	fmt.Printf("  Status: Connected\n  Version: %s\n", health.Version)
	who, err := call[wire.CurrentUser](ctx, u, "GetCurrentUser", &wire.Empty{})
	if err != nil {
		fmt.Printf("  Authentication: Failed (%s)\n", status.Convert(err).Message())
		return nil
	}
	fmt.Printf("  Authentication: Authenticated (%s)\n", who.Means)
	return nil
}

func (u *user) whoami(ctx context.Context, _ []string) error {
	who, err := call[wire.CurrentUser](ctx, u, "GetCurrentUser", &wire.Empty{})
	if err != nil {
		return err
	}
	fmt.Printf("Subject: %s\nRoles: %s\n", who.Subject, strings.Join(who.Roles, ", "))
	return nil
}

func (u *user) createProvider(ctx context.Context, words []string) error {
	if len(words) != 4 || words[0] != "--name" || words[2] != "--type" {
		return errors.New("usage: openshell provider create --name NAME --type TYPE")
	}
	made, err := call[wire.Provider](ctx, u, "CreateProvider", &wire.Provider{Name: words[1], Type: words[3]})
	if err != nil {
		return err
	}
	fmt.Printf("Created provider %s\n", made.Name)
	return nil
}

func (u *user) listProviders(ctx context.Context, _ []string) error {
	all, err := call[wire.ProviderList](ctx, u, "ListProviders", &wire.Empty{})
	if err != nil {
		return err
	}
	fmt.Println("NAME  TYPE")
	for _, one := range all.Providers {
		fmt.Printf("%s  %s\n", one.Name, one.Type)
	}
	return nil
}

// meanings are the sentences that the real client, which is tonic's, has for codes.
var meanings = map[codes.Code]string{
	codes.Unauthenticated:    "The request does not have valid authentication credentials",
	codes.PermissionDenied:   "The caller does not have permission to execute the specified operation",
	codes.NotFound:           "Some requested entity was not found",
	codes.AlreadyExists:      "Some entity that we attempted to create already exists",
	codes.Unavailable:        "The service is currently unavailable",
	codes.Unimplemented:      "Operation is not implemented or not supported",
	codes.InvalidArgument:    "Client specified an invalid argument",
	codes.FailedPrecondition: "The system is not in a state required for the operation's execution",
}

func describe(err error) string {
	answer, isStatus := status.FromError(err)
	if !isStatus {
		return err.Error()
	}
	meaning, known := meanings[answer.Code()]
	if !known {
		meaning = answer.Code().String()
	}
	return fmt.Sprintf("code: '%s', message: %q", meaning, answer.Message())
}
