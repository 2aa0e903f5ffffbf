package guesttest

import (
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// HostServer listens on the host and says "secret" to everyone.
func HostServer(t *testing.T, address string) string {
	t.Helper()
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("secret"))
			conn.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// HostAddress returns an address of this host that is not the loopback's, or "".
func HostAddress() string {
	addresses, _ := net.InterfaceAddrs()
	for _, address := range addresses {
		if ip, ok := address.(*net.IPNet); ok && ip.IP.To4() != nil && ip.IP.IsGlobalUnicast() {
			return ip.IP.String()
		}
	}
	return ""
}

// FreePort is one of the host's that nobody listens on.
func FreePort(t *testing.T, address string) string {
	t.Helper()
	listener, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	return port
}

// PortNumber is a port as a number.
func PortNumber(t *testing.T, port string) uint16 {
	t.Helper()
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(number)
}

// Hears returns what a service says to the guest that connects to it.
func (g *Guest) Hears(to string) (string, error) {
	conn, err := g.Dial(to, 10*time.Second)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	text, err := io.ReadAll(conn)
	return string(text), err
}

// Refused tells whether a connection was answered with a reset.
func Refused(err error) bool { return err != nil && strings.Contains(err.Error(), "refused") }

// ComesToBe waits until something holds.
func ComesToBe(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for range 1000 {
		if holds() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("timed out waiting for %s", what)
}
