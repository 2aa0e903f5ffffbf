package guesttest

import (
	"encoding/binary"
	"net"
	"net/netip"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"gateway.local/gvproxy/internal/config"
)

// Framed is a stream of frames, as QEMU sends them.
func Framed(frames ...[]byte) []byte {
	var stream []byte
	for _, frame := range frames {
		stream = append(binary.BigEndian.AppendUint32(stream, uint32(len(frame))), frame...)
	}
	return stream
}

// FrameFrom is an Ethernet frame to everybody, from a source address that has the number in it.
func FrameFrom(number uint32) []byte {
	frame := make([]byte, 60)
	copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0})
	binary.BigEndian.PutUint32(frame[8:], number)
	return frame
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
func (g *Guest) answer(within time.Duration, send func(), fits func(header.IPv4) bool) (header.IPv4, bool) {
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

// SynAnswered sends a hand-made SYN, as root in a guest can, to an address that a well-behaved stack
// would not send anything to, and tells whether anyone accepted it within the time.
func (g *Guest) SynAnswered(to string, within time.Duration) bool {
	g.t.Helper()
	target := netip.MustParseAddrPort(to)
	const sourcePort = 45999
	frame := TCPFrame(netip.MustParseAddr("192.168.127.2"), target, sourcePort, header.TCPFlagSyn)
	reply, ok := g.answer(within, func() { g.Send(frame) }, func(ip header.IPv4) bool {
		reply := header.TCP(ip.Payload())
		return len(reply) >= header.TCPMinimumSize && reply.DestinationPort() == sourcePort
	})
	return ok && header.TCP(reply.Payload()).Flags().Contains(header.TCPFlagSyn|header.TCPFlagAck)
}

// TCPFrame is a TCP segment without data, as root in a guest can make it.
func TCPFrame(source netip.Addr, target netip.AddrPort, sourcePort uint16, flags header.TCPFlags) []byte {
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

// Ping sends a hand-made echo request and returns the answer to it.
func (g *Guest) Ping(to string) (header.ICMPv4Type, header.ICMPv4Code, bool) {
	g.t.Helper()
	target := tcpip.AddrFrom4(netip.MustParseAddr(to).As4())
	frame, ip := ipFrame(FullAddress("192.168.127.2:0").Addr, target, header.ICMPv4ProtocolNumber, header.ICMPv4MinimumSize)
	echo := header.ICMPv4(ip.Payload())
	echo.SetType(header.ICMPv4Echo)
	echo.SetChecksum(header.ICMPv4Checksum(echo, 0))
	return g.icmpAnswer(target, func() { g.Send(frame) })
}

// icmpAnswer returns what comes from an address by ICMP after something was sent there.
func (g *Guest) icmpAnswer(target tcpip.Address, send func()) (header.ICMPv4Type, header.ICMPv4Code, bool) {
	g.t.Helper()
	reply, ok := g.answer(10*time.Second, send, func(ip header.IPv4) bool {
		return ip.Protocol() == uint8(header.ICMPv4ProtocolNumber) && ip.SourceAddress() == target &&
			len(ip.Payload()) >= header.ICMPv4MinimumSize
	})
	if !ok {
		return 0, 0, false
	}
	answer := header.ICMPv4(reply.Payload())
	return answer.Type(), answer.Code(), true
}

// Datagram sends one and returns what ICMP answers.
func (g *Guest) Datagram(target string) (header.ICMPv4Type, header.ICMPv4Code, bool) {
	g.t.Helper()
	to := FullAddress(target)
	conn, err := gonet.DialUDP(g.Stack, nil, &to, ipv4.ProtocolNumber)
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	return g.icmpAnswer(to.Addr, func() { _, _ = conn.Write([]byte("hello")) })
}
