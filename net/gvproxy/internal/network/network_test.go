package network

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/guesttest"
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
	n, err := New(config, resolver)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// guestOf is a guest on it.
func guestOf(t *testing.T, n *Network) *guesttest.Guest {
	t.Helper()
	ours, theirs := net.Pipe()
	go n.serveGuest(ours)
	return guesttest.New(t, theirs, false)
}

func TestTheGuestReachesTheWorld(t *testing.T) {
	outside := guesttest.HostAddress()
	if outside == "" {
		t.Skip("this host has no address but the loopback's")
	}
	g := guestOf(t, networkWith(t, names.OfHost(), config.Config{Egress: config.EgressAll}))
	target := outside + ":" + guesttest.HostServer(t, "0.0.0.0:0")
	conn, err := g.Dial(target, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(conn); string(got) != "secret" || err != nil {
		t.Errorf("got %q %v", got, err)
	}
	if !g.SynAnswered(target, 10*time.Second) {
		t.Error("the hand-made SYN of the other test is no proof: it is not answered where it should be")
	}
	if _, err := g.Dial(outside+":1", 5*time.Second); err == nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("a closed port is not refused: %v", err)
	}
}

func TestFramesOfOtherSourcesAreDropped(t *testing.T) {
	const frames = 20_000
	n := networkOf(t, names.OfHost())
	stream := guestOf(t, n)
	socket := filepath.Join(t.TempDir(), "v")
	listening, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listening.Close() })
	go n.ServeDatagram(listening)
	datagrams := guesttest.Vfkit(t, socket)
	for name, g := range map[string]*guesttest.Guest{"stream": stream, "datagrams": datagrams} {
		before := n.dropped.Load()
		for i := range frames {
			g.Send(guesttest.FrameFrom(uint32(i)))
		}
		guesttest.ComesToBe(t, "the frames to be dropped", func() bool { return n.dropped.Load() >= before+frames })
		if known := len(n.fabric.CAM()); known > 2 {
			t.Errorf("%s: the switch remembers %d addresses", name, known)
		}
		if conn, err := g.Dial("192.168.127.1:53", 10*time.Second); err != nil {
			t.Errorf("%s: the guest has lost its gateway: %v", name, err)
		} else {
			conn.Close()
		}
	}
}

func TestANameOfTheSettingsOpensItsAddressesOnItsPort(t *testing.T) {
	outside := guesttest.HostAddress()
	if outside == "" {
		t.Skip("this host has no address but the loopback's")
	}
	port, other := guesttest.HostServer(t, "0.0.0.0:0"), guesttest.HostServer(t, "0.0.0.0:0")
	for name, want := range map[string]bool{"mirror.test": true, "elsewhere.test": false, "local.test": false} {
		resolver := resolverOf(t, outside+" mirror.test\n10.9.9.9 elsewhere.test\n127.0.0.1 local.test\n")
		n := networkWith(t, resolver, config.Config{
			Egress: config.EgressNone, AllowHosts: []config.AllowedHost{{Host: name, Port: guesttest.PortNumber(t, port)}},
		})
		g := guestOf(t, n)
		got, err := g.Hears(outside + ":" + port)
		if want != (got == "secret") || want == guesttest.Refused(err) {
			t.Errorf("%s: %q %v", name, got, err)
		}
		if _, err := g.Hears(outside + ":" + other); !guesttest.Refused(err) {
			t.Errorf("%s opens another port: %v", name, err)
		}
		if g.SynAnswered("127.0.0.1:"+port, 300*time.Millisecond) {
			t.Errorf("%s opens the loopback", name)
		}
	}
}

// resolverOf knows the names of a hosts file and asks nobody.
func resolverOf(t *testing.T, hosts string) *names.Resolver {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	return &names.Resolver{Hosts: path, ResolvConf: "/nowhere", Port: "1"}
}
