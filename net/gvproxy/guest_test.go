package main

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
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
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

// guest is a machine on the virtual network: a network stack that speaks to the program's socket as
// QEMU or libkrun would.
type guest struct {
	t     *testing.T
	conn  net.Conn
	raw   bool // datagrams: no length before a frame
	stack *stack.Stack
	link  *channel.Endpoint
	// sending keeps frames whole. It is not held while receiving: a guest that stops to read while it
	// writes would block itself.
	sending sync.Mutex
	lock    sync.Mutex
	// deaf is held while the guest does not read.
	deaf sync.Mutex
	// seen gets the frames that came in, while it is not nil.
	seen chan []byte
}

// dialQemu connects a guest as QEMU does.
func dialQemu(t *testing.T, socket string) *guest {
	t.Helper()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	return newGuest(t, conn, false)
}

// dialVfkit connects a guest as libkrun does, from a socket of its own.
func dialVfkit(t *testing.T, socket string) *guest {
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
	return newGuest(t, conn, true)
}

func newGuest(t *testing.T, conn net.Conn, raw bool) *guest {
	t.Helper()
	mac, _ := net.ParseMAC(config.DefaultGuestMAC)
	g := &guest{t: t, conn: conn, raw: raw, link: channel.New(8192, 1500+header.EthernetMinimumSize, tcpip.LinkAddress(mac))}
	g.link.LinkEPCapabilities = stack.CapabilityResolutionRequired
	g.stack = stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol},
	})
	if err := g.stack.CreateNIC(nicID, ethernet.New(g.link)); err != nil {
		t.Fatal(err)
	}
	own := tcpip.AddressWithPrefix{Address: tcpip.AddrFrom4([4]byte{192, 168, 127, 2}), PrefixLen: 24}
	if err := g.stack.AddProtocolAddress(nicID, tcpip.ProtocolAddress{
		Protocol: ipv4.ProtocolNumber, AddressWithPrefix: own,
	}, stack.AddressProperties{}); err != nil {
		t.Fatal(err)
	}
	g.stack.SetRouteTable([]tcpip.Route{
		{Destination: own.Subnet(), NIC: nicID},
		{Destination: header.IPv4EmptySubnet, Gateway: tcpip.AddrFrom4([4]byte{192, 168, 127, 1}), NIC: nicID},
	})
	noRACK := tcpip.TCPRecovery(0) // as in newStack
	_ = g.stack.SetTransportProtocolOption(tcp.ProtocolNumber, &noRACK)
	ctx, cancel := context.WithCancel(context.Background())
	go g.transmit(ctx)
	go g.receive()
	t.Cleanup(func() {
		cancel()
		conn.Close()
		g.stack.Close()
	})
	// A guest that has just booted asks for an address or for its gateway; this one has to say
	// something too before anyone can find it.
	g.dial("192.168.127.1:1", 300*time.Millisecond)
	return g
}

func (g *guest) transmit(ctx context.Context) {
	for {
		packet := g.link.ReadContext(ctx)
		if packet == nil {
			return
		}
		view := packet.ToView()
		g.send(view.AsSlice())
		packet.DecRef()
	}
}

// send puts one frame on the wire.
func (g *guest) send(data []byte) {
	g.sending.Lock()
	defer g.sending.Unlock()
	if !g.raw {
		data = append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...)
	}
	_, _ = g.conn.Write(data)
}

func (g *guest) receive() {
	reader := bufio.NewReader(g.conn)
	for {
		g.deaf.Lock()
		g.deaf.Unlock()
		data := make([]byte, 65536)
		if g.raw {
			n, err := g.conn.Read(data)
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

func fullAddress(text string) tcpip.FullAddress {
	at := netip.MustParseAddrPort(text)
	return tcpip.FullAddress{NIC: nicID, Addr: tcpip.AddrFrom4(at.Addr().As4()), Port: at.Port()}
}

// dial opens a TCP connection from inside the guest.
func (g *guest) dial(to string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	conn, err := gonet.DialContextTCP(ctx, g.stack, fullAddress(to), ipv4.ProtocolNumber)
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// echo serves TCP on a port of the guest: it sends back what it gets, and ends when its client does.
func (g *guest) echo(port string) {
	g.t.Helper()
	listener, err := gonet.ListenTCP(g.stack, fullAddress("192.168.127.2:"+port), ipv4.ProtocolNumber)
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

// echoUDP serves UDP on a port of the guest.
func (g *guest) echoUDP(port string) {
	g.t.Helper()
	at := fullAddress("192.168.127.2:" + port)
	conn, err := gonet.DialUDP(g.stack, &at, nil, ipv4.ProtocolNumber)
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

// ipFrame makes a frame of the guest to the gateway by hand, with a packet whose payload of that size is still empty.
func ipFrame(source, target tcpip.Address, protocol tcpip.TransportProtocolNumber, size int) ([]byte, header.IPv4) {
	frame := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize+size)
	gateway, _ := net.ParseMAC(config.GatewayMAC)
	own, _ := net.ParseMAC(config.DefaultGuestMAC)
	header.Ethernet(frame).Encode(&header.EthernetFields{
		SrcAddr: tcpip.LinkAddress(own), DstAddr: tcpip.LinkAddress(gateway), Type: ipv4.ProtocolNumber,
	})
	ip := header.IPv4(frame[header.EthernetMinimumSize:])
	ip.Encode(&header.IPv4Fields{
		TotalLength: uint16(header.IPv4MinimumSize + size), TTL: 64, Protocol: uint8(protocol),
		SrcAddr: source, DstAddr: target,
	})
	ip.SetChecksum(^ip.CalculateChecksum())
	return frame, ip
}

// answer returns the first packet that fits of those that come in after something was sent; false when
// none came within the time.
func (g *guest) answer(within time.Duration, send func(), fits func(header.IPv4) bool) (header.IPv4, bool) {
	g.t.Helper()
	seen := make(chan []byte, 64)
	g.lock.Lock()
	g.seen = seen
	g.lock.Unlock()
	send()
	for deadline := time.After(within); ; {
		select {
		case data := <-seen:
			if len(data) < header.EthernetMinimumSize || header.Ethernet(data).Type() != ipv4.ProtocolNumber {
				continue
			}
			ip := header.IPv4(data[header.EthernetMinimumSize:])
			if ip.IsValid(len(ip)) && fits(ip) {
				return ip, true
			}
		case <-deadline:
			return nil, false
		}
	}
}

// synAnswered sends a hand-made SYN, as root in a guest can, to an address that a well-behaved stack
// would not send anything to, and tells whether anyone accepted it within the time.
func (g *guest) synAnswered(to string, within time.Duration) bool {
	g.t.Helper()
	target := netip.MustParseAddrPort(to)
	const sourcePort = 45999
	frame := tcpFrame(netip.MustParseAddr("192.168.127.2"), target, sourcePort, header.TCPFlagSyn)
	reply, ok := g.answer(within, func() { g.send(frame) }, func(ip header.IPv4) bool {
		reply := header.TCP(ip.Payload())
		return len(reply) >= header.TCPMinimumSize && reply.DestinationPort() == sourcePort
	})
	return ok && header.TCP(reply.Payload()).Flags().Contains(header.TCPFlagSyn|header.TCPFlagAck)
}

// tcpFrame is a TCP segment without data, as root in a guest can make it.
func tcpFrame(source netip.Addr, target netip.AddrPort, sourcePort uint16, flags header.TCPFlags) []byte {
	from, to := tcpip.AddrFrom4(source.As4()), tcpip.AddrFrom4(target.Addr().As4())
	frame, ip := ipFrame(from, to, tcp.ProtocolNumber, header.TCPMinimumSize)
	segment := header.TCP(ip.Payload())
	segment.Encode(&header.TCPFields{
		SrcPort: sourcePort, DstPort: target.Port(), SeqNum: 1, DataOffset: header.TCPMinimumSize,
		Flags: flags, WindowSize: 65535,
	})
	pseudo := header.PseudoHeaderChecksum(tcp.ProtocolNumber, from, to, header.TCPMinimumSize)
	segment.SetChecksum(^checksum.Checksum(segment, pseudo))
	return frame
}
