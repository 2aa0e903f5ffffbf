package network

import (
	"bytes"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"
	"github.com/sirupsen/logrus"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/guesttest"
	"gateway.local/gvproxy/internal/names"
)

// What gvproxy reads from the guest. No target sends anything beyond the loopback.

func fuzzConfig(f *testing.F) *config.Config {
	f.Helper()
	c := &config.Config{ListenQemu: "q", API: "a"}
	if err := c.Complete(); err != nil {
		f.Fatal(err)
	}
	return c
}

// oneWay is a connection that has the bytes to be read.
type oneWay struct {
	net.Conn
	io.Reader
}

func (c oneWay) Read(p []byte) (int, error) { return c.Reader.Read(p) }

// FuzzFrames reads a stream of frames: only whole frames of the guest come out.
func FuzzFrames(f *testing.F) {
	c := fuzzConfig(f)
	own := guesttest.FrameFrom(1)
	copy(own[6:], c.Addresses.GuestMAC)
	f.Add(guesttest.Framed(own, guesttest.FrameFrom(2), own[:14], own[:13], nil, own))
	f.Add(guesttest.Framed(own)[:30])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 1})
	f.Add(binary.BigEndian.AppendUint32(nil, maxFrame))
	f.Fuzz(func(t *testing.T, stream []byte) {
		var dropped atomic.Uint64
		guest := newStreamGuest(oneWay{Reader: bytes.NewReader(stream)}, c.Addresses.GuestMAC, &dropped)
		out, _ := io.ReadAll(guest)
		for len(out) >= 4 {
			size := int(binary.BigEndian.Uint32(out))
			if size < minFrame || size > maxFrame {
				t.Fatalf("a frame of %d bytes", size)
			}
			frame := out[4:]
			if len(frame) < size {
				return // the stream ended in it
			}
			if !isFrom(c.Addresses.GuestMAC, frame[:size]) {
				t.Fatalf("a frame of another source: %x", frame[:minFrame])
			}
			out = frame[size:]
		}
	})
}

// FuzzDNS reads a message to the gateway's port 53: what has an answer has one that can be sent.
func FuzzDNS(f *testing.F) {
	for _, kind := range []uint16{dns.TypeA, dns.TypePTR, dns.TypeSRV, dns.TypeANY} {
		query := new(dns.Msg).SetQuestion("a.example.", kind)
		query.SetEdns0(4096, true)
		message, _ := query.Pack()
		f.Add(message)
	}
	update, _ := new(dns.Msg).SetUpdate("example.").Pack()
	f.Add(update)
	reply, _ := new(dns.Msg).SetReply(new(dns.Msg).SetQuestion("a.", dns.TypeA)).Pack()
	f.Add(reply)
	f.Add([]byte{0, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0xc0, 12, 0, 1, 0, 1})
	f.Fuzz(func(t *testing.T, message []byte) {
		query, reply := readQuery(message)
		if reply == nil {
			if query != nil {
				t.Fatal("a question without a reply")
			}
			return
		}
		if !reply.Response || reply.Id != binary.BigEndian.Uint16(message) {
			t.Fatalf("not an answer to it: %v", reply)
		}
		size := dns.MinMsgSize
		if query != nil {
			size = udpSize(query)
		}
		reply.Truncate(size)
		packed, err := reply.Pack()
		if err != nil {
			t.Fatalf("%v: %v", err, reply)
		}
		if query != nil && len(packed) > names.MaxUDPReply {
			t.Fatalf("%d bytes", len(packed))
		}
	})
}

// FuzzDHCP reads a message to the gateway's port 67: an answer offers the guest's address to the guest.
func FuzzDHCP(f *testing.F) {
	c := fuzzConfig(f)
	for _, kind := range []dhcpv4.MessageType{
		dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeInform,
	} {
		message, err := dhcpv4.New(dhcpv4.WithHwAddr(c.Addresses.GuestMAC), dhcpv4.WithMessageType(kind),
			dhcpv4.WithRequestedOptions(dhcpv4.OptionRouter, dhcpv4.OptionInterfaceMTU))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(message.ToBytes())
	}
	f.Fuzz(func(t *testing.T, message []byte) {
		reply := dhcpReply(c, message)
		if reply == nil {
			return
		}
		offer, err := dhcpv4.FromBytes(reply)
		if err != nil || !offer.YourIPAddr.Equal(net.IP(c.Addresses.Guest.AsSlice())) ||
			offer.ClientHWAddr.String() != c.GuestMAC || offer.OpCode != dhcpv4.OpcodeBootReply {
			t.Fatalf("%v %v", err, offer)
		}
	})
}

// fuzzLink is a whole network, and what sends a frame into it.
func fuzzLink(f *testing.F) func(frame []byte) {
	f.Helper()
	slog.SetDefault(slog.New(slog.DiscardHandler))
	logrus.SetOutput(io.Discard)
	c := fuzzConfig(f)
	// A port of the loopback that nobody listens on; no DNS question leaves the host.
	c.HostServices = []config.HostService{{GuestPort: 80, HostPort: 1}}
	n, err := New(c, &names.Resolver{ResolvConf: "/nowhere", Hosts: "/nowhere", Port: "1"})
	if err != nil {
		f.Fatal(err)
	}
	ours, theirs := net.Pipe()
	go n.serveGuest(ours)
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	f.Cleanup(func() { theirs.Close() })
	return func(frame []byte) {
		_ = theirs.SetWriteDeadline(time.Now().Add(30 * time.Second))
		if _, err := theirs.Write(guesttest.Framed(frame)); err != nil {
			panic("gvproxy no longer reads: " + err.Error())
		}
	}
}

// toGateway keeps a packet on the virtual network: its destination is the gateway or the services' address.
func toGateway(c *config.Config, frame []byte, toService bool) {
	ip := frame[header.EthernetMinimumSize:]
	if len(ip) < header.IPv4MinimumSize {
		return
	}
	to := c.Addresses.Gateway.As4()
	if toService {
		to = c.Addresses.Service.As4()
	}
	copy(ip[16:], to[:])
	size := min(len(ip), int(ip[0]&15)*4)
	ip[10], ip[11] = 0, 0
	binary.BigEndian.PutUint16(ip[10:], ^checksum.Checksum(ip[:size], 0))
}

// FuzzEthernet sends frames of any protocol into the whole network.
func FuzzEthernet(f *testing.F) {
	c, send := fuzzConfig(f), fuzzLink(f)
	f.Add(uint16(0x0806), []byte("\x00\x01\x08\x00\x06\x04\x00\x01\x5a\x94\xef\xe4\x0c\xee\xc0\xa8\x7f\x02\x00\x00\x00\x00\x00\x00\xc0\xa8\x7f\x01"))
	f.Add(uint16(0x0800), []byte("E\x00\x00\x1c\x00\x01\x20\x00\x40\x11\x00\x00\xc0\xa8\x7f\x02\xc0\xa8\x7f\x01\x04\x00\x00\x35\x00\x08\x00\x00"))
	f.Add(uint16(0x0800), []byte("O\x00\x00\x1c\x00\x01\x00\x00\x40\x01\x00\x00\xc0\xa8\x7f\x02\xc0\xa8\x7f\x01\x08\x00\x00\x00\x00\x08\x00\x00"))
	f.Add(uint16(0x86dd), make([]byte, 60))
	f.Fuzz(func(_ *testing.T, protocol uint16, payload []byte) {
		payload = payload[:min(len(payload), 2000)]
		frame := make([]byte, header.EthernetMinimumSize, header.EthernetMinimumSize+len(payload))
		gateway, _ := net.ParseMAC(config.GatewayMAC)
		copy(frame, gateway)
		copy(frame[6:], c.Addresses.GuestMAC)
		binary.BigEndian.PutUint16(frame[12:], protocol)
		frame = append(frame, payload...)
		toGateway(c, frame, false)
		send(frame)
	})
}

// FuzzSegments sends TCP, UDP and ICMP packets with a valid IPv4 header, SYNs to a host service among them.
func FuzzSegments(f *testing.F) {
	c, send := fuzzConfig(f), fuzzLink(f)
	f.Add(uint8(6), true, []byte("\xb3\xaf\x00\x50\x00\x00\x00\x01\x00\x00\x00\x00\x50\x02\xff\xff\x00\x00\x00\x00"))
	f.Add(uint8(6), false, []byte("\xb3\xaf\x00\x35\x00\x00\x00\x01\x00\x00\x00\x00\x60\x02\xff\xff\x00\x00\x00\x00\x02\x04\x05\xb4"))
	f.Add(uint8(6), true, []byte("\xb3\xaf\x00\x50\x00\x00\x00\x01\x00\x00\x00\x00\x50\x14\xff\xff\x00\x00\x00\x00"))
	f.Add(uint8(17), false, []byte("\x00\x44\x00\x43\x00\x0a\x00\x00ab"))
	f.Add(uint8(1), false, []byte("\x08\x00\x00\x00\x00\x01\x00\x01"))
	f.Fuzz(func(_ *testing.T, protocol uint8, toService bool, segment []byte) {
		segment = segment[:min(len(segment), 1400)]
		frame := make([]byte, header.EthernetMinimumSize+header.IPv4MinimumSize, 1500)
		gateway, _ := net.ParseMAC(config.GatewayMAC)
		copy(frame, gateway)
		copy(frame[6:], c.Addresses.GuestMAC)
		frame[12] = 8
		ip := header.IPv4(frame[header.EthernetMinimumSize:])
		ip.Encode(&header.IPv4Fields{TotalLength: uint16(len(ip) + len(segment)), TTL: 64, Protocol: protocol})
		copy(frame[header.EthernetMinimumSize+12:], c.Addresses.Guest.AsSlice())
		frame = append(frame, segment...)
		toGateway(c, frame, toService)
		send(frame)
	})
}
