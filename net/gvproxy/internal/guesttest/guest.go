// Package guesttest is a guest for tests: a network stack that speaks to gvproxy's sockets as QEMU or libkrun would, and
// frames made by hand. It must not know gvproxy's own packages but the configuration.
package guesttest

import (
	"bufio"
	"context"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/link/channel"
	"gvisor.dev/gvisor/pkg/tcpip/link/ethernet"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"gateway.local/gvproxy/internal/config"
)

const nicID = 1

// Guest is a machine on the virtual network.
type Guest struct {
	t     *testing.T
	Conn  net.Conn
	raw   bool // datagrams: no length before a frame
	Stack *stack.Stack
	link  *channel.Endpoint
	// Sending keeps frames whole. It is not held while receiving: a guest that stops to read while it
	// writes would block itself.
	Sending sync.Mutex
	lock    sync.Mutex
	// Deaf is held while the guest does not read.
	Deaf sync.Mutex
	// seen gets the frames that came in, while it is not nil.
	seen chan []byte
}

// Qemu connects a guest as QEMU does.
func Qemu(t *testing.T, socket string) *Guest {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	return New(t, conn, false)
}

// Vfkit connects a guest as libkrun does, from a socket of its own.
func Vfkit(t *testing.T, socket string) *Guest {
	t.Helper()
	own := filepath.Join(t.TempDir(), "vm")
	conn, err := net.DialUnix("unixgram", &net.UnixAddr{Name: own, Net: "unixgram"},
		&net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("VFKT")); err != nil {
		t.Fatal(err)
	}
	return New(t, conn, true)
}

// New is a guest at the other end of a connection.
func New(t *testing.T, conn net.Conn, raw bool) *Guest {
	t.Helper()
	mac, _ := net.ParseMAC(config.DefaultGuestMAC)
	g := &Guest{t: t, Conn: conn, raw: raw, link: channel.New(8192, 1500+header.EthernetMinimumSize, tcpip.LinkAddress(mac))}
	g.link.LinkEPCapabilities = stack.CapabilityResolutionRequired
	g.Stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	if err := g.Stack.CreateNIC(nicID, ethernet.New(g.link)); err != nil {
		t.Fatal(err)
	}
	own := tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4([4]byte{192, 168, 127, 2}), PrefixLen: 24}
	if err := g.Stack.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
		Protocol: ipv4.ProtocolNumber, AddressWithPrefix: own,
	}, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	g.Stack.SetRouteTable([]tcpip.Route{
		{Destination: own.Subnet(), NIC: nicID},
		{Destination: header.IPv4EmptySubnet, Gateway: tcpip.AddrFrom4([4]byte{192, 168, 127, 1}), NIC: nicID},
	})
	noRACK := tcpip.TCPRecovery(0) // as in gvproxy
	_ = g.Stack.SetTransportProtocolOption(tcp.ProtocolNumber, &noRACK)
	ctx, cancel := context.WithCancel(context.Background())
	go g.transmit(ctx)
	go g.receive()
	t.Cleanup(func() {
		cancel()
		conn.Close()
		g.Stack.Close()
	})
	// A guest that has just booted asks for an address or for its gateway; this one has to say
	// something too before anyone can find it.
	g.Dial("192.168.127.1:1", 300*time.Millisecond)
	return g
}

func (g *Guest) transmit(ctx context.Context) {
	for {
		packet := g.link.ReadContext(ctx)
		if packet == nil {
			return
		}
		view := packet.ToView()
		g.Send(view.AsSlice())
		packet.DecRef()
	}
}

// Send puts one frame on the wire.
func (g *Guest) Send(data []byte) {
	g.Sending.Lock()
	defer g.Sending.Unlock()
	if !g.raw {
		data = append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
	}
	_, _ = g.Conn.Write(data)
}

func (g *Guest) receive() {
	reader := bufio.NewReader(g.Conn)
	for {
		g.Deaf.Lock()
		g.Deaf.Unlock()
		data := make([]byte, 65536)
		if g.raw {
			n, err := g.Conn.Read(data)
			if err != nil {
				return
			}
			data = data[:n]
		} else {
			var size [4]byte
			if _, err := io.ReadFull(reader, size[:]); err != nil {
				return
			}
			data = data[:binary.BigEndian.Uint32(size[:])]
			if _, err := io.ReadFull(reader, data); err != nil {
				return
			}
		}
		g.lock.Lock()
		if g.seen != nil {
			select {
			case g.seen <- data:
			default:
			}
		}
		g.lock.Unlock()
		packet := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(data)})
		g.link.InjectInbound(0, packet)
		packet.DecRef()
	}
}

// FullAddress is an address and a port of the virtual network.
func FullAddress(text string) tcpip.FullAddress {
	at := netip.MustParseAddrPort(text)
	return tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFrom4(at.Addr().As4()), Port: at.Port()}
}

// Dial opens a TCP connection from inside the guest.
func (g *Guest) Dial(to string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := gonet.DialContextTCP(ctx, g.Stack, FullAddress(to), ipv4.ProtocolNumber)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// Echo serves TCP on a port of the guest: it sends back what it gets, and ends when its client does.
func (g *Guest) Echo(port string) {
	g.t.Helper()
	listener, err := gonet.ListenTCP(g.Stack, FullAddress("192.168.127.2:"+port), ipv4.ProtocolNumber)
	if err != nil {
		g.t.Fatal(err)
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = io.Copy(conn, conn)
				conn.Close()
			}()
		}
	}()
}

// EchoUDP serves UDP on a port of the guest.
func (g *Guest) EchoUDP(port string) {
	g.t.Helper()
	at := FullAddress("192.168.127.2:" + port)
	conn, err := gonet.DialUDP(g.Stack, &at, nil, ipv4.ProtocolNumber)
	if err != nil {
		g.t.Fatal(err)
	}
	go func() {
		data := make([]byte, 2048)
		for {
			n, from, err := conn.ReadFrom(data)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(data[:n], from)
		}
	}()
}
