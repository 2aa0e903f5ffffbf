package main

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"gateway.local/gvproxy/internal/guesttest"
	"gateway.local/gvproxy/internal/limits"
	"gateway.local/gvproxy/internal/relay"
)

// small keeps this guest from needing the memory that its flood is about.
func small(g *guesttest.Guest) {
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: 8192, Max: 8192}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: 65536, Max: 65536}
	_ = g.Stack.SetTransportProtocolOption(tcp.ProtocolNumber, &receive)
	_ = g.Stack.SetTransportProtocolOption(tcp.ProtocolNumber, &send)
}

// sender accepts connections, sends without end from a moment on and never reads.
func sender(t *testing.T, address string, start <-chan struct{}) string {
	t.Helper()
	listener, err := net.Listen("tcp4", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	data := bytes.Repeat([]byte("x"), 64<<10)
	go relay.AcceptAll(listener, func(conn net.Conn) {
		_ = conn.(*net.TCPConn).SetReadBuffer(4096)
		t.Cleanup(func() { conn.Close() })
		go func() {
			<-start
			for {
				if _, err := conn.Write(data); err != nil {
					return
				}
			}
		}()
	})
	return listener.Addr().String()
}

// Both sides of every connection send what they can and read nothing.
func TestFloodOfConnections(t *testing.T) {
	outside := guesttest.HostAddress()
	if outside == "" {
		t.Skip("this host has no address but the loopback's")
	}
	f := newFlooded(t)
	small(f.guest)
	start := make(chan struct{})
	close(start)
	target := sender(t, outside+":0", start)
	data := bytes.Repeat([]byte("x"), 1<<20)
	var lock sync.Mutex
	opened, refusals := 0, 0
	var workers sync.WaitGroup
	for range 32 {
		workers.Go(func() {
			for range (limits.MaxConnections + 320) / 32 {
				conn, err := f.guest.Dial(target, 30*time.Second)
				lock.Lock()
				if err == nil {
					opened++
				} else if guesttest.Refused(err) {
					refusals++
				}
				lock.Unlock()
				if err == nil {
					go func() { _, _ = io.Copy(conn, bytes.NewReader(data)) }()
				}
			}
		})
	}
	workers.Wait()
	f.check("connections")
	if opened > limits.MaxConnections || refusals == 0 {
		t.Errorf("%d opened, %d refused", opened, refusals)
	}
}

// A guest that reads nothing keeps the stack waiting, while what it sends needs no answer to be read.
func TestFloodOfAGuestThatDoesNotRead(t *testing.T) {
	outside := guesttest.HostAddress()
	if outside == "" {
		t.Skip("this host has no address but the loopback's")
	}
	f := newFlooded(t)
	start := make(chan struct{})
	target := sender(t, outside+":0", start)
	var acks [][]byte
	// Each sends its first ten segments without an answer: together more than the socket has room for.
	for i := range 256 {
		conn, err := f.guest.Dial(target, 10*time.Second)
		if err != nil {
			t.Fatal(i, err)
		}
		own := netip.MustParseAddrPort(conn.LocalAddr().String())
		acks = append(acks, guesttest.TCPFrame(own.Addr(), netip.MustParseAddrPort(target), own.Port(), header.TCPFlagAck))
	}
	f.guest.Deaf.Lock()
	release := sync.OnceFunc(f.guest.Deaf.Unlock)
	t.Cleanup(release)
	close(start)
	burst := guesttest.Framed(acks...)
	_ = f.guest.Conn.SetWriteDeadline(time.Now().Add(4 * time.Minute))
	for range 2_000 {
		f.guest.Sending.Lock()
		_, err := f.guest.Conn.Write(burst)
		f.guest.Sending.Unlock()
		if err != nil {
			t.Fatal("gvproxy does not read any more: ", err)
		}
	}
	_ = f.guest.Conn.SetWriteDeadline(time.Time{})
	f.check("deafness")
	release()
	guesttest.ComesToBe(t, "the guest to reach its gateway again", func() bool {
		conn, err := f.guest.Dial("192.168.127.1:53", 5*time.Second)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

func TestFloodOfUDP(t *testing.T) {
	outside := guesttest.HostAddress()
	if outside == "" {
		t.Skip("this host has no address but the loopback's")
	}
	sink, err := net.ListenPacket("udp4", outside+":0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { sink.Close() })
	f := newFlooded(t)
	to := guesttest.FullAddress(sink.LocalAddr().String())
	big := make([]byte, 1400)
	for range 4 * limits.MaxUDPFlows {
		conn, err := gonet.DialUDP(f.guest.Stack, nil, &to, ipv4.ProtocolNumber)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		for range 8 {
			_, _ = conn.Write(big)
		}
	}
	guesttest.ComesToBe(t, "the flows", func() bool { return f.stat("udpFlows") == limits.MaxUDPFlows })
	f.check("udp")
	if most := f.mostFDs; most > limits.MaxUDPFlows+64 {
		t.Errorf("%d descriptors", most)
	}
}
