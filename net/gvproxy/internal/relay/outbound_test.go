package relay

import (
	"errors"
	"net"
	"runtime"
	"strconv"
	"syscall"
	"testing"

	"gateway.local/gvproxy/internal/guesttest"
)

func TestAConnectionDoesNotMeetItself(t *testing.T) {
	port, _ := strconv.Atoi(guesttest.FreePort(t, "127.0.0.1:0"))
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

func TestADatagramToABroadcastAddressOfTheHostIsNotSent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("on other systems sending fails and not opening")
	}
	conn, err := dialUDP("127.255.255.255:9")
	if !errors.Is(err, syscall.EACCES) {
		t.Errorf("%v %v", conn, err)
	}
	if conn, err = dialUDP("127.0.0.1:9"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
}
