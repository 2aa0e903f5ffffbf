package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/names"
)

// networkOf is a network without a process and sockets of its own.
func networkOf(t *testing.T, resolver *names.Resolver, services ...config.HostService) *Network {
	t.Helper()
	return networkWith(t, resolver, config.Config{HostServices: services})
}

// networkWith is one with more of a configuration.
func networkWith(t *testing.T, resolver *names.Resolver, some config.Config) *Network {
	t.Helper()
	config := &some
	config.ListenQemu, config.API = "q", "a"
	if err := config.Complete(); err != nil {
		t.Fatal(err)
	}
	n, err := newNetwork(config, resolver)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// guestOf is a guest on it.
func guestOf(t *testing.T, n *Network) *guest {
	t.Helper()
	ours, theirs := net.Pipe()
	go n.serveGuest(ours)
	return newGuest(t, theirs, false)
}

func TestConfigRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	for _, text := range []string{
		`{}`, `{"api":"a"}`, `{"listenQemu":"q"}`, `{"listenQemu":"q","api":"a","nat":{}}`,
		`{"listenQemu":"q","api":"a","subnet":"192.168.127.0/30"}`, `{"listenQemu":"q","api":"a","subnet":"fd00::/64"}`,
		`{"listenQemu":"q","api":"a","guestIp":"10.0.0.1"}`, `{"listenQemu":"q","api":"a","guestMac":"x"}`,
		`{"listenQemu":"q","api":"a","hostServices":[{"guestPort":0,"hostPort":1}]}`,
		`{"listenQemu":"q","api":"a","hostServices":[{"guestPort":1,"hostPort":1},{"guestPort":1,"hostPort":2}]}`,
		`{"listenQemu":"q","api":"a","hostServices":[{"guestPort":70000,"hostPort":1}]}`,
		`{"listenQemu":"q","api":"a","serviceIp":"192.168.127.2"}`, `{"listenQemu":"q","api":"a","serviceIp":"10.0.0.1"}`,
		`{"listenQemu":"q","api":"a","egress":"lan"}`, `{"listenQemu":"q","api":"a","allowNets":[{"net":"10.0.0.1"}]}`,
		`{"listenQemu":"q","api":"a","allowNets":[{"net":"fd00::/8"}]}`, `{"listenQemu":"q","api":"a","allowHosts":[{"host":"x"}]}`,
		`{"listenQemu":"q","api":"a","guestIp":"192.168.127.1"}`, `{"listenQemu":"q","api":"a","mtu":100}`,
		`{"listenQemu":"q","api":"` + strings.Repeat("x", 104) + `"}`, `no json`,
	} {
		_ = os.WriteFile(path, []byte(text), 0o600)
		if code := run([]string{"-config", path}, strings.NewReader(""), io.Discard); code != 2 {
			t.Errorf("%s: %d", text, code)
		}
	}
	for _, args := range [][]string{nil, {"-config"}, {"-config", "x", "y"}, {"-config", "/nope"}} {
		if code := run(args, strings.NewReader(""), io.Discard); code != 2 {
			t.Errorf("%q: %d", args, code)
		}
	}
}
