// Command gvproxy is the network of one instance: it plays gateway, DHCP and DNS for the guest over
// the socket of its VMM and forwards ports of the host to it.
//
// It differs from the program of the same name whose library it uses in what it leaves out. The guest
// is offered no API, no address leads to the host's loopback but for the ports that the user names,
// and only the user who started it can talk to it, through sockets of mode 0600.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/confine"
	"gateway.local/gvproxy/internal/limits"
	"gateway.local/gvproxy/internal/logs"
	"gateway.local/gvproxy/internal/names"
	"gateway.local/gvproxy/internal/network"
	"gateway.local/gvproxy/internal/relay"
)

func main() {
	os.Exit(run(os.Args[1:], os.Stdin, os.Stderr))
}

// run is main with its surroundings as arguments. Exit codes: 0 told to stop, 1 failed, 2 misused.
func run(args []string, stdin io.Reader, stderr io.Writer) int {
	flags := flag.NewFlagSet("gvproxy", flag.ContinueOnError)
	flags.SetOutput(stderr)
	path := flags.String("config", "", "JSON configuration `file`")
	if err := flags.Parse(args); err != nil {
		return 2
	}
	if *path == "" || flags.NArg() > 0 {
		fmt.Fprintln(stderr, "usage: gvproxy -config FILE.json")
		return 2
	}
	config, err := config.Load(*path)
	if err == nil {
		err = logs.Set(config.LogLevel, stderr)
	}
	if err != nil {
		fmt.Fprintln(stderr, "gvproxy:", err)
		return 2
	}
	if err := limits.Process(); err != nil {
		fmt.Fprintln(stderr, "gvproxy:", err)
		return 1
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	if config.ExitWithParent {
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		go func() {
			_, _ = io.Copy(io.Discard, stdin)
			slog.Info("the parent is gone")
			cancel()
		}()
	}
	if err := serve(ctx, config, names.OfHost()); err != nil {
		fmt.Fprintln(stderr, "gvproxy:", err)
		return 1
	}
	return 0
}

// serve runs until ctx ends and leaves no socket behind.
func serve(ctx context.Context, config *config.Config, resolver *names.Resolver) error {
	virtual, err := network.New(config, resolver)
	if err != nil {
		return err
	}
	forwards := relay.NewForwards(virtual.Relays)
	defer forwards.CloseAll()
	if config.ListenQemu != "" {
		listener, err := listenStream(config.ListenQemu)
		if err != nil {
			return fmt.Errorf("cannot listen for QEMU: %w", err)
		}
		defer listener.Close()
		go virtual.AcceptStream(listener)
	}
	if config.ListenVfkit != "" {
		conn, err := listenDatagram(config.ListenVfkit)
		if err != nil {
			return fmt.Errorf("cannot listen for libkrun: %w", err)
		}
		defer os.Remove(config.ListenVfkit)
		defer conn.Close()
		go virtual.ServeDatagram(conn)
	}
	// Last, so that an answer from the API means that the rest is there.
	listener, err := listenStream(config.API)
	if err != nil {
		return fmt.Errorf("cannot listen for the host: %w", err)
	}
	confinement, err := confine.Process(config.User, filepath.Dir(config.API))
	if err != nil {
		return err
	}
	slog.Info("confined", "user", confinement.User, "landlock", confinement.Landlock, "missing", confinement.Why)
	return serveAPI(ctx, listener, &api{
		path: config.API, network: virtual, forwards: forwards, confinement: confinement, started: time.Now(),
	})
}

func serveAPI(ctx context.Context, listener net.Listener, a *api) error {
	server := &http.Server{
		Handler:           a.handler(),
		ReadHeaderTimeout: 10 * time.Second,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	slog.Info("ready", "api", a.path, "pid", os.Getpid())
	select {
	case <-ctx.Done():
		_ = server.Close()
		<-ended
		return nil
	case err := <-ended:
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return err
	}
}
