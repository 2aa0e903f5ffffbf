package main

import (
	"bufio"
	"errors"
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
	if got := n.egress.Refused.Totals().RefusedDNS; got != 4 {
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
