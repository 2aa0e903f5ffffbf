package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/limits"
	"gateway.local/gvproxy/internal/names"
)

const serviceAddress = "192.168.127.253"

func portNumber(t *testing.T, port string) uint16 {
	t.Helper()
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(number)
}

// hears returns what a service says to the guest that connects to it.
func (g *guest) hears(to string) (string, error) {
	conn, err := g.dial(to, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	text, err := io.ReadAll(conn)
	return string(text), err
}

func refused(err error) bool { return err != nil && strings.Contains(err.Error(), "refused") }

// freePort is one of the host's that nobody listens on.
func freePort(t *testing.T, address string) string {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

func TestAHostServiceIsExactlyThatPort(t *testing.T) {
	chosen, other := hostServer(t, "127.0.0.1:0"), hostServer(t, "127.0.0.1:0")
	p := startProxy(t, config.HostService{GuestPort: portNumber(t, chosen), HostPort: portNumber(t, chosen)}, config.HostService{GuestPort: 80, HostPort: portNumber(t, chosen)})
	g := dialQemu(t, p.config.ListenQemu)
	for _, port := range []string{chosen, "80"} {
		if got, err := g.hears(serviceAddress + ":" + port); got != "secret" || err != nil {
			t.Errorf("port %s: %q %v", port, got, err)
		}
	}
	for _, target := range []string{
		serviceAddress + ":" + other, serviceAddress + ":53", serviceAddress + ":81", "192.168.127.1:80",
		"192.168.127.1:" + chosen, "192.168.127.254:" + chosen, "192.168.127.3:" + chosen, "192.168.127.252:" + chosen,
	} {
		if conn, err := g.dial(target, 4*time.Second); err == nil {
			conn.Close()
			t.Errorf("the guest could connect to %s", target)
		}
	}
	for _, address := range []string{
		"127.0.0.1", "127.1.2.3", "0.0.0.0", "192.168.127.1", "192.168.127.254", "192.168.127.255", "169.254.169.254",
	} {
		if g.synAnswered(address+":"+chosen, 700*time.Millisecond) {
			t.Errorf("a hand-made SYN to %s was accepted", address)
		}
	}
	if !g.synAnswered(serviceAddress+":"+chosen, 10*time.Second) {
		t.Error("the hand-made SYN is no proof: the service does not answer it either")
	}
}

func TestAHostServiceIsNotOpenToUDP(t *testing.T) {
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer packets.Close()
	_, port, _ := net.SplitHostPort(packets.LocalAddr().String())
	number := portNumber(t, port)
	n := networkOf(t, names.OfHost(), config.HostService{GuestPort: number, HostPort: number})
	g := guestOf(t, n)
	to := fullAddress(serviceAddress + ":" + port)
	conn, err := gonet.DialUDP(g.stack, nil, &to, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write([]byte("hello"))
	// A TCP connection after it has been refused: the datagram was handled by then.
	if _, err := g.dial(serviceAddress+":"+port, 10*time.Second); !refused(err) {
		t.Errorf("nobody listens by TCP: %v", err)
	}
	_ = packets.SetReadDeadline(time.Now().Add(300 * time.Millisecond))
	if _, from, err := packets.ReadFrom(make([]byte, 10)); err == nil {
		t.Errorf("a datagram came to the host from %s", from)
	}
	if flows := n.relays.udpFlows.Load(); flows != 0 {
		t.Errorf("%d UDP flows", flows)
	}
}

func TestAHostServiceThatIsDownIsRefusedAndFoundAgain(t *testing.T) {
	port := freePort(t, "127.0.0.1:0")
	p := startProxy(t, config.HostService{GuestPort: 11434, HostPort: portNumber(t, port)})
	g := dialQemu(t, p.config.ListenQemu)
	for range 2 {
		if _, err := g.hears(serviceAddress + ":11434"); !refused(err) {
			t.Errorf("the service is down: %v", err)
		}
		listener, err := net.Listen("tcp4", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		go acceptAll(listener, func(conn net.Conn) {
			_, _ = conn.Write([]byte("up"))
			conn.Close()
		})
		if got, err := g.hears(serviceAddress + ":11434"); got != "up" || err != nil {
			t.Errorf("the service is up: %q %v", got, err)
		}
		listener.Close()
	}
}

func TestAHostServiceMayListenOnIPv6Only(t *testing.T) {
	listener, err := net.Listen("tcp6", "[::1]:0")
	if err != nil {
		t.Skip("this host has no ::1: ", err)
	}
	defer listener.Close()
	go acceptAll(listener, func(conn net.Conn) {
		_, _ = conn.Write([]byte("six"))
		conn.Close()
	})
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	n := networkOf(t, names.OfHost(), config.HostService{GuestPort: 80, HostPort: portNumber(t, port)})
	if got, err := guestOf(t, n).hears(serviceAddress + ":80"); got != "six" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestHostServicesAreAddedAndRemovedWhileTheGuestRuns(t *testing.T) {
	p := startProxy(t)
	g := dialQemu(t, p.config.ListenQemu)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go acceptAll(listener, func(conn net.Conn) { _, _ = conn.Write([]byte("x")) })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	service := config.HostService{GuestPort: 443, HostPort: portNumber(t, port)}
	if _, err := g.hears(serviceAddress + ":443"); !refused(err) {
		t.Errorf("before: %v", err)
	}
	for range 2 {
		if status, body := p.call("POST", "/services", service); status != 200 {
			t.Errorf("add: %d %v", status, body)
		}
	}
	open, err := g.dial(serviceAddress+":443", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = open.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(open, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	if _, stats := p.call("GET", "/stats", nil); stats["serviceConnections"].(float64) != 1 {
		t.Errorf("stats %v", stats)
	}
	if status, body := p.call("DELETE", "/services", config.HostService{GuestPort: 443}); status != 200 {
		t.Errorf("remove: %d %v", status, body)
	}
	if _, err := open.Read(make([]byte, 1)); err == nil || timedOut(err) {
		t.Errorf("the open connection goes on: %v", err)
	}
	if _, err := g.hears(serviceAddress + ":443"); !refused(err) {
		t.Errorf("after: %v", err)
	}
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestTheServicesAPIRefuses(t *testing.T) {
	p := startProxy(t, config.HostService{GuestPort: 443, HostPort: 1})
	for _, c := range []struct {
		method string
		body   any
		status int
		code   string
	}{
		{"POST", config.HostService{GuestPort: 443, HostPort: 2}, 409, codePortInUse},
		{"POST", config.HostService{GuestPort: 0, HostPort: 2}, 400, codeBadRequest},
		{"POST", config.HostService{GuestPort: 2, HostPort: 0}, 400, codeBadRequest},
		{"POST", map[string]int{"guestPort": 70000, "hostPort": 1}, 400, codeBadRequest},
		{"POST", map[string]any{"guestPort": 2, "hostPort": 1, "host": "10.0.0.1"}, 400, codeBadRequest},
		{"DELETE", config.HostService{GuestPort: 444}, 404, codeNotFound},
	} {
		if status, body := p.call(c.method, "/services", c.body); status != c.status || body["code"] != c.code {
			t.Errorf("%s %v: %d %v", c.method, c.body, status, body)
		}
	}
}

func TestTwoNetworksShareAHostService(t *testing.T) {
	port := hostServer(t, "127.0.0.1:0")
	for range 2 {
		p := startProxy(t, config.HostService{GuestPort: 11434, HostPort: portNumber(t, port)})
		if got, err := dialQemu(t, p.config.ListenQemu).hears(serviceAddress + ":11434"); got != "secret" || err != nil {
			t.Errorf("%q %v", got, err)
		}
	}
}

// holder accepts connections and keeps each until its client ends it; it returns its port.
func holder(t *testing.T, address string) string {
	t.Helper()
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go acceptAll(listener, func(conn net.Conn) {
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			conn.Close()
		}()
	})
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// comesToBe waits until something holds.
func comesToBe(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 1000 {
		if holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("timed out waiting for %s", what)
}

func TestConnectionsToHostServicesAreBounded(t *testing.T) {
	n := networkOf(t, names.OfHost(), config.HostService{GuestPort: 80, HostPort: portNumber(t, holder(t, "127.0.0.1:0"))})
	boundHolds(t, guestOf(t, n), serviceAddress+":80", limits.MaxServiceConnections, n.services.count)
}

func TestConnectionsToTheWorldAreBounded(t *testing.T) {
	outside := hostAddress()
	if outside == "" {
		t.Skip("this host has no address but the loopback's")
	}
	n := networkWith(t, names.OfHost(), config.Config{Egress: config.EgressAll})
	count := func() int { return int(n.relays.opened.Load()) }
	boundHolds(t, guestOf(t, n), outside+":"+holder(t, "0.0.0.0:0"), limits.MaxConnections, count)
}

// boundHolds opens as many connections as the limit, is refused one more, ends one and opens another.
func boundHolds(t *testing.T, g *guest, target string, limit int, count func() int) {
	t.Helper()
	var last net.Conn
	for want := range limit {
		conn, err := g.dial(target, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		last = conn
		comesToBe(t, fmt.Sprintf("connection %d", want+1), func() bool { return count() == want+1 })
	}
	if _, err := g.dial(target, 10*time.Second); !refused(err) {
		t.Errorf("one too many: %v", err)
	}
	last.Close()
	comesToBe(t, "the end of a connection", func() bool { return count() == limit-1 })
	conn, err := g.dial(target, 10*time.Second)
	if err != nil {
		t.Fatalf("there is room again: %v", err)
	}
	conn.Close()
}

func TestAConnectionDoesNotMeetItself(t *testing.T) {
	port, _ := strconv.Atoi(freePort(t, "127.0.0.1:0"))
	own := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}
	conn, err := net.DialTCP("tcp4", own, own)
	if err != nil {
		t.Skip("this system refuses such a connection by itself: ", err)
	}
	if _, err := refuseItself(conn); err == nil {
		t.Error("it was taken for the service's")
	}
	listener, err := net.ListenTCP("tcp4", own)
	if err != nil {
		t.Fatal("the service's port is held: ", err)
	}
	listener.Close()
}
