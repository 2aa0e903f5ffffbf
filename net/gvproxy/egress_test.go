package main

import (
	"bufio"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/names"
)

func TestEgressByAddressAndMode(t *testing.T) {
	own := netip.MustParsePrefix("93.184.216.34/24")
	for _, c := range []struct {
		what      string
		addresses []string
		internet  reason
		all       reason
		none      reason
	}{
		{"public", []string{
			"1.1.1.1", "93.184.216.35", "168.63.129.15", "168.63.129.17", "172.32.0.1", "100.63.255.255", "100.128.0.0",
			"192.0.1.1", "198.17.255.255", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1",
		}, reachable, reachable, reasonNone},
		{"private", []string{
			"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.126.1", "192.168.128.1", "::ffff:10.0.0.1",
			"64:ff9b::a00:1", "2002:c0a8:8001::1", "fd00::1", "fc00::1", "::10.0.0.1",
		}, reasonPrivate, reachable, reasonNone},
		{"shared", []string{"100.64.0.1", "100.127.255.255", "100.100.100.199"}, reasonPrivate, reachable, reasonNone},
		{"protocols, tests and documentation", []string{
			"192.0.0.191", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
			"2001:db8::1", "3fff::1", "2001::1", "100::1", "5f00::1",
		}, reasonPrivate, reachable, reasonNone},
		{"this host's own", []string{"93.184.216.34", "::ffff:93.184.216.34"}, reasonHost, reachable, reasonNone},
		{"loopback", []string{
			"127.0.0.1", "127.1.2.3", "0.0.0.0", "0.1.2.3", "::1", "::", "::ffff:127.0.0.1", "::127.0.0.1",
			"64:ff9b::7f00:1", "2002:7f00:1::1",
		}, reasonNever, reasonNever, reasonNever},
		{"link-local", []string{
			"169.254.0.1", "169.254.255.255", "fe80::1", "fe80::1%eth0", "fec0::1",
		}, reasonNever, reasonNever, reasonNever},
		{"metadata", []string{
			"169.254.169.254", "168.63.129.16", "100.100.100.200", "100.100.100.100", "192.0.0.192", "fd00:ec2::254",
			"fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a83f:8110", "2002:a9fe:a9fe::",
		}, reasonNever, reasonNever, reasonNever},
		{"multicast and reserved", []string{
			"224.0.0.1", "239.255.255.250", "240.0.0.1", "ff02::1",
		}, reasonNever, reasonNever, reasonNever},
		{"the virtual network", []string{
			"192.168.127.1", "192.168.127.3", "192.168.127.255", "::ffff:192.168.127.1", "255.255.255.255",
		}, reasonVirtual, reasonVirtual, reasonVirtual},
	} {
		for mode, want := range map[string]reason{"": c.internet, config.EgressAll: c.all, config.EgressNone: c.none} {
			e := networkWith(t, names.OfHost(), config.Config{Egress: mode}).egress
			e.host.read = func() ([]net.Addr, error) {
				return []net.Addr{&net.IPNet{IP: own.Addr().AsSlice(), Mask: net.CIDRMask(24, 32)}}, nil
			}
			for _, address := range c.addresses {
				for _, what := range []kind{kindTCP, kindUDP, kindICMP} {
					if got := e.judge(what, netip.MustParseAddr(address), 80); got != want {
						t.Errorf("%s: %s to %s in mode %q: %q, not %q", c.what, what, address, mode, got, want)
					}
				}
			}
		}
	}
}

func TestEgressIsClosedWhileTheHostsAddressesAreUnknown(t *testing.T) {
	e := networkOf(t, names.OfHost()).egress
	e.host.read = func() ([]net.Addr, error) { return nil, errors.New("no") }
	if got := e.judge(kindTCP, netip.MustParseAddr("1.1.1.1"), 80); got != reasonHost {
		t.Errorf("%q", got)
	}
}

func TestEgressIsOpenToWhatTheUserAllowed(t *testing.T) {
	for _, mode := range []string{config.EgressInternet, config.EgressNone} {
		e := networkWith(t, names.OfHost(), config.Config{
			Egress:     mode,
			AllowNets:  []config.AllowedNet{{Net: "10.1.0.0/16"}, {Net: "10.2.0.1/32", Port: 443}, {Net: "0.0.0.0/1", Port: 7}},
			AllowHosts: []config.AllowedHost{{Host: "10.3.0.1", Port: 5000}},
		}).egress
		for _, c := range []struct {
			what   kind
			to     string
			opened bool
		}{
			{kindTCP, "10.1.2.3:1", true}, {kindUDP, "10.1.2.3:1", true}, {kindICMP, "10.1.2.3:0", true},
			{kindTCP, "10.0.255.255:1", false}, {kindTCP, "10.2.0.1:443", true}, {kindUDP, "10.2.0.1:443", true},
			{kindTCP, "10.2.0.1:80", false}, {kindICMP, "10.2.0.1:443", false}, {kindTCP, "10.2.0.2:443", false},
			{kindTCP, "10.3.0.1:5000", true}, {kindUDP, "10.3.0.1:5000", false}, {kindTCP, "10.3.0.1:80", false},
			{kindTCP, "127.0.0.1:7", false}, {kindTCP, "100.100.100.200:7", false}, {kindTCP, "10.9.9.9:7", true},
		} {
			to := netip.MustParseAddrPort(c.to)
			if got := e.judge(c.what, to.Addr(), to.Port()); (got == reachable) != c.opened {
				t.Errorf("mode %s, %s to %s: %q", mode, c.what, c.to, got)
			}
		}
	}
}

// resolverOf knows the names of a hosts file and asks nobody.
func resolverOf(t *testing.T, hosts string) *names.Resolver {
	t.Helper()
	path := filepath.Join(t.TempDir(), "hosts")
	if err := os.WriteFile(path, []byte(hosts), 0o600); err != nil {
		t.Fatal(err)
	}
	return &names.Resolver{Hosts: path, ResolvConf: "/nowhere", Port: "1"}
}

func TestARefusedConnectionIsResetCountedAndTold(t *testing.T) {
	outside := hostAddress()
	if outside == "" {
		t.Skip("this host has no address but the loopback's")
	}
	port := hostServer(t, "0.0.0.0:0")
	p := startProxy(t)
	g := dialQemu(t, p.config.ListenQemu)
	for range 2 {
		if _, err := g.hears(outside + ":" + port); !refused(err) {
			t.Errorf("a connection to this host: %v", err)
		}
	}
	g.datagram("10.9.9.9:53")
	if kind, code, ok := g.ping("10.9.9.9"); !ok || kind != header.ICMPv4DstUnreachable || code != prohibited {
		t.Errorf("ping: type %d, code %d, answered %v", kind, code, ok)
	}
	_, stats := p.call("GET", "/stats", nil)
	for field, want := range map[string]float64{"refusedTcp": 2, "refusedUdp": 1, "refusedIcmp": 1, "refusedDns": 0} {
		if stats[field] != want {
			t.Errorf("%s is %v", field, stats[field])
		}
	}
	response, err := p.client.Get("http://gvproxy/refusals")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for _, want := range []string{
		`{"kind":"tcp","target":"` + outside + ":" + port + `","reason":"`,
		`{"kind":"udp","target":"10.9.9.9:53","reason":"private"}`,
		`{"kind":"icmp","target":"10.9.9.9","reason":"private"}`,
	} {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
			t.Errorf("%q, not %q", lines.Text(), want)
		}
	}
}

func TestANameOfTheSettingsOpensItsAddressesOnItsPort(t *testing.T) {
	outside := hostAddress()
	if outside == "" {
		t.Skip("this host has no address but the loopback's")
	}
	port, other := hostServer(t, "0.0.0.0:0"), hostServer(t, "0.0.0.0:0")
	for name, want := range map[string]bool{"mirror.test": true, "elsewhere.test": false, "local.test": false} {
		resolver := resolverOf(t, outside+" mirror.test\n10.9.9.9 elsewhere.test\n127.0.0.1 local.test\n")
		n := networkWith(t, resolver, config.Config{Egress: config.EgressNone, AllowHosts: []config.AllowedHost{{Host: name, Port: portNumber(t, port)}}})
		g := guestOf(t, n)
		got, err := g.hears(outside + ":" + port)
		if want != (got == "secret") || want == refused(err) {
			t.Errorf("%s: %q %v", name, got, err)
		}
		if _, err := g.hears(outside + ":" + other); !refused(err) {
			t.Errorf("%s opens another port: %v", name, err)
		}
		if g.synAnswered("127.0.0.1:"+port, 300*time.Millisecond) {
			t.Errorf("%s opens the loopback", name)
		}
	}
}

func TestWithoutEgressOnlyNamesOfTheSettingsAreLookedUp(t *testing.T) {
	resolver := resolverOf(t, "10.9.9.9 known.test\n")
	n := networkWith(t, resolver, config.Config{Egress: config.EgressNone, AllowHosts: []config.AllowedHost{{Host: "Mirror.test", Port: 443}}})
	server := &nameServer{services: n.services, egress: n.egress, host: resolver}
	for _, c := range []struct {
		name  string
		kind  uint16
		rcode int
	}{
		{"known.test.", dns.TypeA, dns.RcodeSuccess}, {"known.test.", dns.TypeAAAA, dns.RcodeSuccess},
		{"mirror.TEST.", dns.TypeAAAA, dns.RcodeSuccess},
		{"data.example.", dns.TypeA, dns.RcodeRefused}, {"data.example.", dns.TypeAAAA, dns.RcodeRefused},
		{"data.example.", dns.TypeTXT, dns.RcodeRefused}, {"known.test.", dns.TypeTXT, dns.RcodeRefused},
		{"host.docker.internal.", dns.TypeA, dns.RcodeNameError},
	} {
		reply := new(dns.Msg).SetQuestion(c.name, c.kind)
		server.fill(reply)
		if reply.Rcode != c.rcode {
			t.Errorf("%s %s: %s", c.name, dns.TypeToString[c.kind], dns.RcodeToString[reply.Rcode])
		}
	}
	if got := n.egress.refused.totals().RefusedDNS; got != 4 {
		t.Errorf("%d were counted", got)
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
	g := guestOf(t, networkOf(t, names.OfHost()))
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
	g := guestOf(t, networkOf(t, names.OfHost()))
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
