// Command demo is the service that a fresh gateway runs: gRPC health and reflection, and a few plain
// pages, all on one port with mutual TLS. It stands where OpenShell's server would, so that the way
// from the host's port to a pod can be seen to work. It keeps no secret of its own.
package main

import (
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/reflection"
)

// version is set by the build.
var version = "1"

const (
	// fileTimeout is how long the secrets may take to appear.
	fileTimeout = 60 * time.Second
	// stopTimeout is what requests that are being answered get when the service is told to stop.
	stopTimeout = 700 * time.Millisecond
)

type options struct{ listen, probe, tlsDir, clientCA, data string }

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", ":8080", "`address` of the service")
	flag.StringVar(&o.probe, "probe", "", "`address` of /healthz without TLS, for the kubelet; none if empty")
	flag.StringVar(&o.tlsDir, "tls", "/etc/demo-tls", "`folder` of tls.crt and tls.key")
	flag.StringVar(&o.clientCA, "client-ca", "/etc/demo-client-ca/ca.crt", "`file` of the clients' authority")
	flag.StringVar(&o.data, "data", "/data", "`folder` of the counter")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	if err := run(ctx, o, nil); err != nil {
		slog.Error("demo ended", "error", err)
		os.Exit(1)
	}
}

// run serves until ctx ends. ready, if given, gets the address that is served.
func run(ctx context.Context, o options, ready chan<- net.Addr) error {
	connections := &connectionSet{}
	certs := &certificates{
		certFile: filepath.Join(o.tlsDir, "tls.crt"), keyFile: filepath.Join(o.tlsDir, "tls.key"),
		caFile: o.clientCA, replaced: connections.closeAll,
	}
	first, cancel := context.WithTimeout(ctx, fileTimeout)
	err := certs.awaitFirst(first)
	cancel()
	if err != nil {
		return fmt.Errorf("no usable certificates: %w", err)
	}
	listener, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	go certs.watch(ctx)
	checks := health.NewServer()
	server := &http.Server{
		Handler:           newHandler(checks, &counter{dir: o.data}),
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		ConnState:         connections.track,
		// Probes that only connect would fill the log with handshakes that were not finished.
		ErrorLog: slog.NewLogLogger(slog.Default().Handler(), slog.LevelDebug),
	}
	if o.probe != "" {
		probe, err := serveProbe(o.probe)
		if err != nil {
			return err
		}
		defer probe.Close()
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(tls.NewListener(listener, certs.serverConfig())) }()
	slog.Info("serving", "address", listener.Addr().String(), "version", version)
	if ready != nil {
		ready <- listener.Addr()
	}
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	checks.Shutdown()
	grace, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if server.Shutdown(grace) != nil {
		_ = server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// newHandler sends gRPC to its server and the rest to the pages.
func newHandler(checks *health.Server, numbers *counter) http.Handler {
	rpc := grpc.NewServer()
	healthpb.RegisterHealthServer(rpc, checks)
	reflection.Register(rpc)
	pages := newPages(numbers)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			rpc.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	})
}

func newPages(numbers *counter) http.Handler {
	started := time.Now().UTC().Format(time.RFC3339)
	hostname, _ := os.Hostname()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		fmt.Fprintf(w, "gateway demo\nhostname: %s\nversion: %s\nstarted-at: %s\nclient: %s\n",
			hostname, version, started, r.TLS.PeerCertificates[0].Subject.CommonName)
	})
	mux.HandleFunc("GET /healthz", healthz)
	mux.HandleFunc("GET /counter", func(w http.ResponseWriter, _ *http.Request) {
		numbers.serve(w, numbers.read)
	})
	mux.HandleFunc("POST /counter", func(w http.ResponseWriter, _ *http.Request) {
		numbers.serve(w, numbers.add)
	})
	return mux
}

func healthz(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }

func serveProbe(address string) (*http.Server, error) {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", healthz)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	return server, nil
}

// connectionSet knows the open connections, so that those which were let in by certificates that are
// no longer valid can be cut.
type connectionSet struct{ open sync.Map }

func (s *connectionSet) track(conn net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.open.Store(conn, nil)
	case http.StateClosed, http.StateHijacked:
		s.open.Delete(conn)
	}
}

func (s *connectionSet) closeAll() {
	s.open.Range(func(conn, _ any) bool {
		_ = conn.(net.Conn).Close()
		return true
	})
}
