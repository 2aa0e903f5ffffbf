package network

import (
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/guesttest"
	"gateway.local/gvproxy/internal/limits"
	"gateway.local/gvproxy/internal/names"
	"gateway.local/gvproxy/internal/relay"
)

const serviceAddress = "192.168.127.253"

func TestAHostServiceIsNotOpenToUDP(t *testing.T) {
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	_, port, _ := net.SplitHostPort(packets.LocalAddr().String())
	number := guesttest.PortNumber(t, port)
	n := networkOf(t, names.OfHost(), config.HostService{GuestPort: number, HostPort: number})
	g := guestOf(t, n)
	to := guesttest.FullAddress(serviceAddress + ":" + port)
	conn, err := gonet.DialUDP(g.Stack, nil, &to, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte("hello"))
	// A TCP connection after it has been refused: the datagram was handled by then.
	if _, err := g.Dial(serviceAddress+":"+port, 10*time.Second); !guesttest.Refused(err) {
		t.Errorf("nobody listens by TCP: %v", err)
	}
	_ = packets.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if _, from, err := packets.ReadFrom(make([]byte, 10)); err == nil {
		t.Errorf("a datagram came to the host from %s", from)
	}
	if flows := n.Relays.UDPFlows(); flows != 0 {
		t.Errorf("%d UDP flows", flows)
	}
}

func TestAHostServiceMayListenOnIPv6Only(t *testing.T) {
	listener, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("this host has no ::1: ", err)
	}
	defer listener.Close()
	go relay.AcceptAll(listener, func(conn net.Conn) {
		_, _ = conn.Write([]byte("six"))
		conn.Close()
	})
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	n := networkOf(t, names.OfHost(), config.HostService{GuestPort: 80, HostPort: guesttest.PortNumber(t, port)})
	if got, err := guestOf(t, n).Hears(serviceAddress + ":80"); got != "six" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestConnectionsToHostServicesAreBounded(t *testing.T) {
	port := guesttest.PortNumber(t, holder(t, "127.0.0.1:0"))
	n := networkOf(t, names.OfHost(), config.HostService{GuestPort: 80, HostPort: port})
	boundHolds(t, guestOf(t, n), serviceAddress+":80", limits.MaxServiceConnections, n.Relays.Services.Count)
}

func TestConnectionsToTheWorldAreBounded(t *testing.T) {
	outside := guesttest.HostAddress()
	if outside == "" {
		t.Skip("this host has no address but the loopback's")
	}
	n := networkWith(t, names.OfHost(), config.Config{Egress: config.EgressAll})
	count := func() int { return int(n.Relays.Opened()) }
	boundHolds(t, guestOf(t, n), outside+":"+holder(t, "0.0.0.0:0"), limits.MaxConnections, count)
}

// boundHolds opens as many connections as the limit, is refused one more, ends one and opens another.
func boundHolds(t *testing.T, g *guesttest.Guest, target string, limit int, count func() int) {
	t.Helper()
	var last net.Conn
	for want := range limit {
		conn, err := g.Dial(target, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		last = conn
		guesttest.ComesToBe(t, fmt.Sprintf("connection %d", want+1), func() bool { return count() == want+1 })
	}
	if _, err := g.Dial(target, 10*time.Second); !guesttest.Refused(err) {
		t.Errorf("one too many: %v", err)
	}
	last.Close()
	guesttest.ComesToBe(t, "the end of a connection", func() bool { return count() == limit-1 })
	conn, err := g.Dial(target, 10*time.Second)
	if err != nil {
		t.Fatalf("there is room again: %v", err)
	}
	conn.Close()
}

// holder accepts connections and keeps each until its client ends it; it returns its port.
func holder(t *testing.T, address string) string {
	t.Helper()
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go relay.AcceptAll(listener, func(conn net.Conn) {
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}()
	})
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}
