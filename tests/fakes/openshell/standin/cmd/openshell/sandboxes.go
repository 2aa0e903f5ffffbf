package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"gateway.local/standin/wire"
)

const createUsage = "usage: openshell sandbox create --detach [--name NAME] [-- COMMAND…]"

// create makes a sandbox and waits until it is ready; to be attached to its main process is not what tests need.
func (u *user) create(ctx context.Context, words []string) error {
	request := &wire.CreateRequest{Name: "sandbox-" + strings.ToLower(rand.Text()[:6])}
	detach := false
	for len(words) > 0 {
		switch {
		case words[0] == "--detach":
			detach, words = true, words[1:]
		case words[0] == "--name" && len(words) > 1:
			request.Name, words = words[1], words[2:]
		case words[0] == "--from" && len(words) > 1:
			request.Image, words = words[1], words[2:]
		case words[0] == "--":
			request.Command, words = words[1:], nil
		default:
			return errors.New(createUsage)
		}
	}
	if !detach {
		return errors.New(createUsage)
	}
	if _, err := call[wire.Sandbox](ctx, u, "CreateSandbox", request); err != nil {
		return err
	}
	fmt.Printf("Created sandbox: %s\n", request.Name)
	return u.ready(ctx, request.Name)
}

func (u *user) ready(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		now, err := call[wire.Sandbox](ctx, u, "GetSandbox", &wire.NameRequest{Name: name})
		if err != nil {
			return err
		}
		switch now.Phase {
		case "Ready":
			fmt.Printf("Sandbox %s is ready\n", name)
			return nil
		case "Error":
			return fmt.Errorf("sandbox entered error phase while provisioning%s", now.Reason)
		}
		select {
		case <-time.After(lookEvery):
		case <-ctx.Done():
			return fmt.Errorf("sandbox %s is still %s", name, now.Phase)
		}
	}
}

// exec is `exec --name NAME -- CMD…`, with the program's streams and exit code. A name without the option is refused, as
// by the real one.
func (u *user) exec(ctx context.Context, words []string) error {
	if len(words) < 4 || !slices.Contains([]string{"-n", "--name"}, words[0]) || words[2] != "--" {
		return errors.New("usage: openshell sandbox exec --name NAME -- COMMAND…")
	}
	ctx, err := u.as(ctx)
	if err != nil {
		return err
	}
	code := exitCode(-1)
	err = wire.CallStreaming(ctx, u.conn, wire.Method("ExecSandbox"),
		&wire.ExecRequest{Name: words[1], Command: words[3:]},
		func(event *wire.ExecEvent) error {
			os.Stdout.Write(event.Stdout)
			os.Stderr.Write(event.Stderr)
			if event.Exit != nil {
				code = exitCode(event.Exit.Code)
			}
			return nil
		})
	switch {
	case err != nil:
		return err
	case code < 0:
		return errors.New("the stream ended before the program")
	case code > 0:
		return code
	}
	return nil
}

func (u *user) list(ctx context.Context, _ []string) error {
	all, err := call[wire.SandboxList](ctx, u, "ListSandboxes", &wire.Empty{})
	if err != nil {
		return err
	}
	if len(all.Sandboxes) == 0 {
		fmt.Println("No sandboxes found.")
		return nil
	}
	fmt.Println("NAME  PHASE")
	for _, one := range all.Sandboxes {
		fmt.Printf("%s  %s\n", one.Name, one.Phase)
	}
	return nil
}

func (u *user) get(ctx context.Context, words []string) error {
	if len(words) != 1 {
		return errors.New("usage: openshell sandbox get NAME")
	}
	one, err := call[wire.Sandbox](ctx, u, "GetSandbox", &wire.NameRequest{Name: words[0]})
	if err != nil {
		return err
	}
	fmt.Printf("Id: %s\nName: %s\nPhase: %s\n", one.ID, one.Name, one.Phase)
	return nil
}

func (u *user) delete(ctx context.Context, words []string) error {
	if len(words) == 0 {
		return errors.New("usage: openshell sandbox delete NAME…")
	}
	for _, name := range words {
		answer, err := call[wire.DeleteAnswer](ctx, u, "DeleteSandbox", &wire.NameRequest{Name: name})
		if err != nil {
			return err
		}
		if !answer.Deleted {
			return fmt.Errorf("sandbox %s not found", name)
		}
		fmt.Printf("Deleted sandbox %s\n", name)
	}
	return nil
}
