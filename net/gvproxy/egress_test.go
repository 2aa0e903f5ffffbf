package main

import (
	"errors"
	"net/netip"
	"runtime"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

func TestSomeAddressesAreNeverReached(t *testing.T) {
	config := networkOf(t, newHostResolver()).config
	for _, c := range []struct {
		what      string
		addresses []string
		reached   bool
	}{
		{"this host", []string{"127.0.0.1", "127.1.2.3", "0.0.0.0", "0.1.2.3", "::1", "::"}, false},
		{"the virtual network", []string{"192.168.127.1", "192.168.127.3", "192.168.127.253", "192.168.127.255"}, false},
		{"link-local", []string{"169.254.0.1", "169.254.255.255", "fe80::1", "fe80::1%eth0", "fec0::1"}, false},
		{"metadata", []string{
			"169.254.169.254", "168.63.129.16", "100.100.100.200", "100.100.100.100", "192.0.0.192",
			"fd00:ec2::254", "fd20:ce::254",
		}, false},
		{"groups and reserved", []string{
			"224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "ff02::1",
		}, false},
		{"another form of one of these", []string{
			"::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe",
			"64:ff9b:1::a83f:8110", "2002:7f00:1::1", "2002:a9fe:a9fe::", "::ffff:192.168.127.1",
		}, false},
		{"the rest", []string{
			"1.1.1.1", "93.184.216.34", "168.63.129.15", "168.63.129.17", "10.0.0.1", "192.168.126.1", "192.168.128.1",
			"100.100.100.199", "100.100.100.101", "192.0.0.191", "2606:4700::1111", "64:ff9b::101:101",
		}, true},
	} {
		for _, address := range c.addresses {
			if got := config.mayReach(netip.MustParseAddr(address)); got != c.reached {
				t.Errorf("%s: mayReach(%s) = %v", c.what, address, got)
			}
		}
	}
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

func TestARefusedDatagramIsAnsweredAtOnce(t *testing.T) {
	g := guestOf(t, networkOf(t, newHostResolver()))
	for _, target := range []string{"168.63.129.16:53", "100.100.100.200:80", serviceAddress + ":5"} {
		if kind, code, ok := g.datagram(target); !ok || kind != header.ICMPv4DstUnreachable || code != header.ICMPv4PortUnreachable {
			t.Errorf("%s: type %d, code %d, answered %v", target, kind, code, ok)
		}
	}
}

// datagram sends one and returns what ICMP answers.
func (g *guest) datagram(target string) (header.ICMPv4Type, header.ICMPv4Code, bool) {
	g.t.Helper()
	to := fullAddress(target)
	conn, err := gonet.DialUDP(g.stack, nil, &to, ipv4.ProtocolNumber)
	if err != nil {
		g.t.Fatal(err)
	}
	defer conn.Close()
	return g.icmpAnswer(to.Addr, func() { _, _ = conn.Write([]byte("hello")) })
}

const prohibited = header.ICMPv4AdminProhibited

func TestAPingIsAnsweredOnlyForWhatCanBeReached(t *testing.T) {
	g := guestOf(t, networkOf(t, newHostResolver()))
	for _, c := range []struct {
		to   string
		kind header.ICMPv4Type
		code header.ICMPv4Code
	}{
		{"192.168.127.1", header.ICMPv4EchoReply, 0},
		{serviceAddress, header.ICMPv4EchoReply, 0},
		{"1.1.1.1", header.ICMPv4EchoReply, 0},
		{"169.254.169.254", header.ICMPv4DstUnreachable, prohibited},
		{"168.63.129.16", header.ICMPv4DstUnreachable, prohibited},
		{"240.0.0.1", header.ICMPv4DstUnreachable, prohibited},
	} {
		if kind, code, ok := g.ping(c.to); !ok || kind != c.kind || code != c.code {
			t.Errorf("%s: type %d, code %d, answered %v", c.to, kind, code, ok)
		}
	}
}

// ping sends a hand-made echo request and returns the answer to it.
func (g *guest) ping(to string) (header.ICMPv4Type, header.ICMPv4Code, bool) {
	g.t.Helper()
	target := tcpip.AddrFrom4(netip.MustParseAddr(to).As4())
	frame, ip := ipFrame(fullAddress("192.168.127.2:0").Addr, target, header.ICMPv4ProtocolNumber, header.ICMPv4MinimumSize)
	echo := header.ICMPv4(ip.Payload())
	echo.SetType(header.ICMPv4Echo)
	echo.SetChecksum(header.ICMPv4Checksum(echo, 0))
	return g.icmpAnswer(target, func() { g.send(frame) })
}

// icmpAnswer returns what comes from an address by ICMP after something was sent there.
func (g *guest) icmpAnswer(target tcpip.Address, send func()) (header.ICMPv4Type, header.ICMPv4Code, bool) {
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
