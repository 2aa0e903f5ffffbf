package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
)

func TestNewNetworkTranslatesNothing(t *testing.T) {
	config := &Config{ListenQemu: "q", API: "a"}
	if err := config.complete(); err != nil {
		t.Fatal(err)
	}
	n, err := newNetwork(config, &hostResolver{})
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"192.168.127.254:1": false, "192.168.127.1:1": false, "127.0.0.1:1": false, "0.0.0.0:1": false,
		"169.254.169.254:1": false, "240.0.0.1:1": false, "255.255.255.255:1": false, "239.1.1.1:1": false,
		"192.168.126.1:1": true, "10.0.0.1:1": true, "93.184.216.34:1": true,
	} {
		if got := n.mayDial(fullAddress(text).Addr); got != want {
			t.Errorf("mayDial(%s) = %v", text, got)
		}
	}
}

// upstreamServer is the host's resolver: it knows one name.
func upstreamServer(t *testing.T) *hostResolver {
	t.Helper()
	packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: packets, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		reply := new(dns.Msg).SetReply(r)
		if r.Question[0].Name == "known.example." {
			answer, _ := dns.NewRR("known.example. 60 IN A 192.0.2.7")
			reply.Answer = append(reply.Answer, answer)
		} else {
			reply.Rcode = dns.RcodeNameError
		}
		_ = w.WriteMsg(reply)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	return &hostResolver{net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "udp4", packets.LocalAddr().String())
	}}}
}

func TestDNSAsksTheHostAndKnowsNoNameForIt(t *testing.T) {
	config := &Config{ListenQemu: "q", API: "a"}
	_ = config.complete()
	n, err := newNetwork(config, upstreamServer(t))
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs := net.Pipe()
	go n.serveGuest(ours)
	g := newGuest(t, theirs, false)
	for name, want := range map[string]string{
		"known.example.": "192.0.2.7", "unknown.example.": "", "host.containers.internal.": "",
		"gateway.containers.internal.": "", "host.docker.internal.": "",
	} {
		at := fullAddress("192.168.127.1:53")
		conn, err := gonet.DialUDP(g.stack, nil, &at, ipv4.ProtocolNumber)
		if err != nil {
			t.Fatal(err)
		}
		client := dns.Conn{Conn: conn}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if err := client.WriteMsg(new(dns.Msg).SetQuestion(name, dns.TypeA)); err != nil {
			t.Fatal(err)
		}
		reply, err := client.ReadMsg()
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		got := ""
		for _, answer := range reply.Answer {
			if a, ok := answer.(*dns.A); ok {
				got = a.A.String()
			}
		}
		if got != want || (want == "") != (reply.Rcode == dns.RcodeNameError) {
			t.Errorf("%s is %q, want %q, code %d", name, got, want, reply.Rcode)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	for _, text := range []string{
		`{}`, `{"api":"a"}`, `{"listenQemu":"q"}`, `{"listenQemu":"q","api":"a","nat":{}}`,
		`{"listenQemu":"q","api":"a","subnet":"192.168.127.0/30"}`, `{"listenQemu":"q","api":"a","subnet":"fd00::/64"}`,
		`{"listenQemu":"q","api":"a","guestIp":"10.0.0.1"}`, `{"listenQemu":"q","api":"a","guestMac":"x"}`,
		`{"listenQemu":"q","api":"a","guestIp":"192.168.127.1"}`, `{"listenQemu":"q","api":"a","mtu":100}`,
		`{"listenQemu":"q","api":"` + strings.Repeat("x", 104) + `"}`, `no json`,
	} {
		_ = os.WriteFile(path, []byte(text), 0o600)
		if code := run([]string{"-config", path}, strings.NewReader(""), io.Discard); code != 2 {
			t.Errorf("%s: %d", text, code)
		}
	}
	for _, args := range [][]string{nil, {"-config"}, {"-config", "x", "y"}, {"-config", "/nope"}} {
		if code := run(args, strings.NewReader(""), io.Discard); code != 2 {
			t.Errorf("%q: %d", args, code)
		}
	}
}
