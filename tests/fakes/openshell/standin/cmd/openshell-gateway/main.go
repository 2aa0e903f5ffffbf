// Command openshell-gateway stands for OpenShell's gateway in tests: what its client, its sandboxes and its cluster see
// of it is the same, down to what it refuses. It was written from observed behaviour, not from OpenShell's sources.
package main

import (
	"context"
	"crypto/tls"
	"flag"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const version = "0.0.111"

func main() {
	log.SetFlags(0)
	bind := flag.String("bind-address", "127.0.0.1", "address of all ports")
	port := flag.Int("port", 8080, "port of the service")
	health := flag.Int("health-port", 8081, "port of the probes")
	metrics := flag.Int("metrics-port", 9090, "port of the metrics")
	configPath := flag.String("config", "/etc/openshell/gateway.toml", "configuration")
	dbURL := flag.String("db-url", "", "where the data is, sqlite:PATH")
	flag.Parse()
	at := func(port int) string { return net.JoinHostPort(*bind, strconv.Itoa(port)) }
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	config, err := readConfig(*configPath)
	if err != nil {
		log.Fatalf("Error: %v", err)
	}
	gateway, err := newGateway(ctx, config, strings.TrimPrefix(*dbURL, "sqlite:"))
	if err != nil {
		log.Fatalf("Error: %v", err)
	}
	if err := serve(ctx, gateway, at(*port), at(*health), at(*metrics)); err != nil {
		log.Fatalf("Error: %v", err)
	}
}

// serve answers on all ports until the context ends.
func serve(ctx context.Context, gateway *gateway, grpcAddress, healthAddress, metricsAddress string) error {
	identity, err := loadIdentity(gateway.config.Gateway.TLS, !gateway.config.hasOIDC())
	if err != nil {
		return err
	}
	if err := identity.watch(ctx); err != nil {
		return err
	}
	service := &http.Server{
		Addr:              grpcAddress,
		Handler:           routes(gateway),
		TLSConfig:         &tls.Config{GetConfigForClient: identity.current, NextProtos: []string{"h2", "http/1.1"}},
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          log.Default(),
	}
	failed := make(chan error, 3)
	go func() { failed <- service.ListenAndServeTLS("", "") }()
	go func() { failed <- plainServer(healthAddress, probes()).ListenAndServe() }()
	go func() { failed <- plainServer(metricsAddress, metricsPage()).ListenAndServe() }()
	log.Printf("openshell-gateway %s serves on %s", version, grpcAddress)
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
		ending, cancel := context.WithTimeout(context.Background(), 3*time.Second)
		defer cancel()
		_ = service.Shutdown(ending)
		return nil
	}
}

// routes gives calls to the service; a plain GET finds nothing, on the same port.
func routes(gateway *gateway) http.Handler {
	calls := newServer(gateway)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ProtoMajor == 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc") {
			calls.ServeHTTP(w, r)
			return
		}
		w.WriteHeader(http.StatusNotFound)
	})
}

func plainServer(address string, handler http.Handler) *http.Server {
	return &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: 30 * time.Second}
}

func probes() http.Handler {
	mux := http.NewServeMux()
	for _, path := range []string{"/health", "/healthz", "/readyz"} {
		mux.HandleFunc(path, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	}
	return mux
}

func metricsPage() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "openshell_gateway_info{version=%q,pid=\"%d\"} 1\n", version, os.Getpid())
	})
}
