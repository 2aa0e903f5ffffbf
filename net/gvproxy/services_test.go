package main

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/guesttest"
	"gateway.local/gvproxy/internal/relay"
)

const serviceAddress = "192.168.127.253"

func TestAHostServiceIsExactlyThatPort(t *testing.T) {
	chosen, other := guesttest.HostServer(t, "127.0.0.1:0"), guesttest.HostServer(t, "127.0.0.1:0")
	number := guesttest.PortNumber(t, chosen)
	p := startProxy(t, config.HostService{GuestPort: number, HostPort: number}, config.HostService{GuestPort: 80, HostPort: number})
	g := guesttest.Qemu(t, p.config.ListenQemu)
	for _, port := range []string{chosen, "80"} {
		if got, err := g.Hears(serviceAddress + ":" + port); got != "secret" || err != nil {
			t.Errorf("port %s: %q %v", port, got, err)
		}
	}
	for _, target := range []string{
		serviceAddress + ":" + other, serviceAddress + ":53", serviceAddress + ":81", "192.168.127.1:80",
		"192.168.127.1:" + chosen, "192.168.127.254:" + chosen, "192.168.127.3:" + chosen, "192.168.127.252:" + chosen,
	} {
		if conn, err := g.Dial(target, 4*time.Second); err == nil {
			conn.Close()
			t.Errorf("the guest could connect to %s", target)
		}
	}
	for _, address := range []string{
		"127.0.0.1", "127.1.2.3", "0.0.0.0", "192.168.127.1", "192.168.127.254", "192.168.127.255", "169.254.169.254",
	} {
		if g.SynAnswered(address+":"+chosen, 700*time.Millisecond) {
			t.Errorf("a hand-made SYN to %s was accepted", address)
		}
	}
	if !g.SynAnswered(serviceAddress+":"+chosen, 10*time.Second) {
		t.Error("the hand-made SYN is no proof: the service does not answer it either")
	}
}

func TestAHostServiceThatIsDownIsRefusedAndFoundAgain(t *testing.T) {
	port := guesttest.FreePort(t, "127.0.0.1:0")
	p := startProxy(t, config.HostService{GuestPort: 11434, HostPort: guesttest.PortNumber(t, port)})
	g := guesttest.Qemu(t, p.config.ListenQemu)
	for range 2 {
		if _, err := g.Hears(serviceAddress + ":11434"); !guesttest.Refused(err) {
			t.Errorf("the service is down: %v", err)
		}
		listener, err := net.Listen("tcp4", "127.0.0.1:"+port)
		if err != nil {
			t.Fatal(err)
		}
		go relay.AcceptAll(listener, func(conn net.Conn) {
			_, _ = conn.Write([]byte("up"))
			conn.Close()
		})
		if got, err := g.Hears(serviceAddress + ":11434"); got != "up" || err != nil {
			t.Errorf("the service is up: %q %v", got, err)
		}
		listener.Close()
	}
}

func TestHostServicesAreAddedAndRemovedWhileTheGuestRuns(t *testing.T) {
	p := startProxy(t)
	g := guesttest.Qemu(t, p.config.ListenQemu)
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go relay.AcceptAll(listener, func(conn net.Conn) { _, _ = conn.Write([]byte("x")) })
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	service := config.HostService{GuestPort: 443, HostPort: guesttest.PortNumber(t, port)}
	if _, err := g.Hears(serviceAddress + ":443"); !guesttest.Refused(err) {
		t.Errorf("before: %v", err)
	}
	for range 2 {
		if status, body := p.call("POST", "/services", service); status != 200 {
			t.Errorf("add: %d %v", status, body)
		}
	}
	open, err := g.Dial(serviceAddress+":443", 10*time.Second)
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
	if _, err := g.Hears(serviceAddress + ":443"); !guesttest.Refused(err) {
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
		{"POST", config.HostService{GuestPort: 443, HostPort: 2}, 409, relay.CodePortInUse},
		{"POST", config.HostService{GuestPort: 0, HostPort: 2}, 400, relay.CodeBadRequest},
		{"POST", config.HostService{GuestPort: 2, HostPort: 0}, 400, relay.CodeBadRequest},
		{"POST", map[string]int{"guestPort": 70000, "hostPort": 1}, 400, relay.CodeBadRequest},
		{"POST", map[string]any{"guestPort": 2, "hostPort": 1, "host": "10.0.0.1"}, 400, relay.CodeBadRequest},
		{"DELETE", config.HostService{GuestPort: 444}, 404, relay.CodeNotFound},
	} {
		if status, body := p.call(c.method, "/services", c.body); status != c.status || body["code"] != c.code {
			t.Errorf("%s %v: %d %v", c.method, c.body, status, body)
		}
	}
}

func TestTwoNetworksShareAHostService(t *testing.T) {
	port := guesttest.HostServer(t, "127.0.0.1:0")
	for range 2 {
		p := startProxy(t, config.HostService{GuestPort: 11434, HostPort: guesttest.PortNumber(t, port)})
		if got, err := guesttest.Qemu(t, p.config.ListenQemu).Hears(serviceAddress + ":11434"); got != "secret" || err != nil {
			t.Errorf("%q %v", got, err)
		}
	}
}
