package network

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/miekg/dns"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/egress"
	"gateway.local/gvproxy/internal/names"
	"gateway.local/gvproxy/internal/relay"
)

func TestWithoutEgressOnlyNamesOfTheSettingsAreLookedUp(t *testing.T) {
	resolver := resolverOf(t, "10.9.9.9 known.test\n")
	n := networkWith(t, resolver, config.Config{
		Egress: config.EgressNone, AllowHosts: []config.AllowedHost{{Host: "Mirror.test", Port: 443}},
	})
	server := &nameServer{services: n.Relays.Services, egress: n.Egress, host: resolver}
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
	if got := n.Egress.Refused.Totals().RefusedDNS; got != 4 {
		t.Errorf("%d were counted", got)
	}
}

func TestEveryKindOfLookupEnds(t *testing.T) {
	hole, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { hole.Close() })
	_, port, _ := net.SplitHostPort(hole.LocalAddr().String())
	conf := filepath.Join(t.TempDir(), "resolv.conf")
	// Without the bound each question would take 1000 s.
	_ = os.WriteFile(conf, []byte("nameserver 127.0.0.1\noptions timeout:10 attempts:100\n"), 0o600)
	server := &nameServer{
		egress:   egress.New(&config.Config{Egress: config.EgressAll}, nil),
		services: &relay.Services{}, timeout: 50 * time.Millisecond,
		host: &names.Resolver{ResolvConf: conf, Hosts: "/nowhere", Port: port},
	}
	for _, kind := range []uint16{dns.TypeA, dns.TypeTXT, dns.TypeMX, dns.TypeSRV, dns.TypePTR, dns.TypeCNAME, dns.TypeNS} {
		query := new(dns.Msg).SetQuestion("a.example.", kind)
		reply := beginReply(query)
		server.fill(reply)
		if reply.Rcode != dns.RcodeServerFailure {
			t.Errorf("%s: %s", dns.TypeToString[kind], dns.RcodeToString[reply.Rcode])
		}
	}
}
