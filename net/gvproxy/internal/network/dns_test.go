package network

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/guesttest"
	"gateway.local/gvproxy/internal/names"
)

// hostWith is a host whose name server has the records and codes given: "name TYPE code" or a record.
type hostWith struct {
	*names.Resolver
	lock  sync.Mutex
	asked []string
}

func (h *hostWith) questions() string {
	h.lock.Lock()
	defer h.lock.Unlock()
	return strings.Join(h.asked, " ")
}

func newHostWith(t *testing.T, resolvConf, hosts string, records ...string) *hostWith {
	t.Helper()
	dir := t.TempDir()
	h := &hostWith{Resolver: &names.Resolver{ResolvConf: dir + "/resolv.conf", Hosts: dir + "/hosts"}}
	packets, listener := listenBoth(t)
	_, h.Port, _ = net.SplitHostPort(packets.LocalAddr().String())
	for path, text := range map[string]string{h.ResolvConf: resolvConf + "\nnameserver 127.0.0.1\n", h.Hosts: hosts} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, r *dns.Msg) {
		_, isTCP := w.RemoteAddr().(*net.TCPAddr)
		h.lock.Lock()
		h.asked = append(h.asked, r.Question[0].Name)
		h.lock.Unlock()
		reply := answerFrom(r, records)
		if !isTCP {
			reply.Truncate(dns.MinMsgSize)
		}
		_ = w.WriteMsg(reply)
	})
	for _, server := range []*dns.Server{{PacketConn: packets, Handler: handler}, {Listener: listener, Handler: handler}} {
		started := make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown() })
	}
	return h
}

// listenBoth finds a port that is free by UDP and by TCP.
func listenBoth(t *testing.T) (net.PacketConn, net.Listener) {
	t.Helper()
	var last error
	for range 50 {
		packets, err := net.ListenPacket("udp4", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		listener, err := net.Listen("tcp4", packets.LocalAddr().String())
		if err == nil {
			return packets, listener
		}
		last = err
		packets.Close()
	}
	t.Fatal(last)
	return nil, nil
}

func answerFrom(r *dns.Msg, records []string) *dns.Msg {
	reply := new(dns.Msg).SetReply(r)
	reply.Rcode = dns.RcodeNameError
	question := r.Question[0]
	for _, text := range records {
		if name, rcode, ok := strings.Cut(text, " = "); ok {
			if name == question.Name {
				reply.Rcode = dns.StringToRcode[rcode]
			}
			continue
		}
		record, err := dns.NewRR(text)
		if err != nil {
			panic(err)
		}
		if !strings.EqualFold(record.Header().Name, question.Name) {
			continue
		}
		reply.Rcode = dns.RcodeSuccess
		if record.Header().Rrtype == question.Qtype {
			reply.Answer = append(reply.Answer, record)
		}
	}
	if len(reply.Answer) == 0 && reply.Rcode != dns.RcodeServerFailure {
		soa, _ := dns.NewRR("example. 60 IN SOA ns.example. root.example. 1 60 60 60 60")
		reply.Ns = append(reply.Ns, soa)
	}
	return reply
}

// asks sends a question from the guest to the gateway.
func asks(t *testing.T, g *guesttest.Guest, by, name string, kind uint16) *dns.Msg {
	t.Helper()
	at := guesttest.FullAddress("192.168.127.1:53")
	var conn net.Conn
	var err error
	if by == "tcp" {
		conn, err = g.Dial("192.168.127.1:53", 10*time.Second)
	} else {
		conn, err = gonet.DialUDP(g.Stack, nil, &at, ipv4.ProtocolNumber)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	client := dns.Conn{Conn: conn}
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	if err := client.WriteMsg(new(dns.Msg).SetQuestion(name, kind)); err != nil {
		t.Fatal(err)
	}
	reply, err := client.ReadMsg()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return reply
}

// said is a code and the data of the answers, in one line.
func said(reply *dns.Msg) string {
	words := []string{dns.RcodeToString[reply.Rcode]}
	for _, record := range reply.Answer {
		words = append(words, strings.TrimPrefix(record.String(), record.Header().String()))
	}
	return strings.Join(words, " ")
}

func TestDNSSaysWhatTheHostKnows(t *testing.T) {
	h := newHostWith(t, "search corp.example lan.example", `
127.0.0.1 localhost
10.5.5.5 intranet intranet.corp.example # the old one
fd00::5 six
`,
		"a.corp.example. 60 IN A 10.1.2.3", "build.corp.example. 60 IN A 10.1.2.4", "printer.lan.example. 60 IN A 10.1.2.5",
		"alias.corp.example. 60 IN CNAME a.corp.example.", "corp.example. 60 IN MX 10 a.corp.example.",
		"corp.example. 60 IN SOA ns.corp.example. root.corp.example. 1 2 3 4 5", "only6.corp.example. 60 IN AAAA fd00::1",
		"3.2.1.10.in-addr.arpa. 60 IN PTR a.corp.example.", "fail.corp.example. = SERVFAIL", "refused.corp.example. = REFUSED",
		"broken.corp.example. = SERVFAIL", "_s._tcp.corp.example. 60 IN SRV 1 2 443 a.corp.example.",
		`txt.corp.example. 60 IN TXT "hello"`,
	)
	g := guestOf(t, networkOf(t, h.Resolver))
	for _, c := range []struct {
		name string
		kind uint16
		want string
	}{
		{"a.corp.example.", dns.TypeA, "NOERROR 10.1.2.3"},
		{"A.Corp.Example.", dns.TypeA, "NOERROR 10.1.2.3"},
		{"unknown.corp.example.", dns.TypeA, "NXDOMAIN"},
		{"only6.corp.example.", dns.TypeA, "NOERROR"},
		{"only6.corp.example.", dns.TypeAAAA, "NOERROR"},
		{"fail.corp.example.", dns.TypeA, "SERVFAIL"},
		{"refused.corp.example.", dns.TypeTXT, "REFUSED"},
		{"broken.", dns.TypeA, "SERVFAIL"},
		{"3.2.1.10.in-addr.arpa.", dns.TypePTR, "NOERROR a.corp.example."},
		// Who does not know a name of the hosts file does not get it.
		{"5.5.5.10.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
		{"intranet.", dns.TypeANY, "NXDOMAIN"},
		{"build.", dns.TypeA, "NOERROR build.corp.example. 10.1.2.4"},
		{"printer.", dns.TypeA, "NOERROR printer.lan.example. 10.1.2.5"},
		{"nobody.", dns.TypeA, "NXDOMAIN"},
		{"intranet.", dns.TypeA, "NOERROR 10.5.5.5"},
		{"intranet.corp.example.", dns.TypeA, "NOERROR 10.5.5.5"},
		{"six.", dns.TypeA, "NOERROR"},
		{"corp.example.", dns.TypeSOA, "NOERROR ns.corp.example. root.corp.example. 1 2 3 4 5"},
		{"corp.example.", dns.TypeMX, "NOERROR 10 a.corp.example."},
		{"corp.example.", dns.TypeAXFR, "REFUSED"},
		{"alias.corp.example.", dns.TypeCNAME, "NOERROR a.corp.example."},
		{"_s._tcp.corp.example.", dns.TypeSRV, "NOERROR 1 2 443 a.corp.example."},
		{"txt.corp.example.", dns.TypeTXT, `NOERROR "hello"`},
		{"host.containers.internal.", dns.TypeA, "NXDOMAIN"},
	} {
		if got := said(asks(t, g, "udp", c.name, c.kind)); got != c.want {
			t.Errorf("%s %s: %s, want %s", c.name, dns.TypeToString[c.kind], got, c.want)
		}
	}
	reply := asks(t, g, "udp", "build.", dns.TypeA)
	if name := reply.Answer[0].Header().Name; name != "build." {
		t.Errorf("the answer is about %s", name)
	}
}

func TestDNSTurnsToTCPForALongAnswer(t *testing.T) {
	records := []string{}
	for i := range 120 {
		records = append(records, fmt.Sprintf("many.example. 60 IN A 10.9.0.%d", i))
	}
	g := guestOf(t, networkOf(t, newHostWith(t, "", "", records...).Resolver))
	if reply := asks(t, g, "udp", "many.example.", dns.TypeA); !reply.Truncated {
		t.Errorf("%d records by UDP", len(reply.Answer))
	}
	if reply := asks(t, g, "tcp", "many.example.", dns.TypeA); len(reply.Answer) != 120 {
		t.Errorf("%d records by TCP", len(reply.Answer))
	}
}

func TestDNSAsksTheNextServerAndKnowsNoneWithoutOne(t *testing.T) {
	h := newHostWith(t, "nameserver 127.0.0.99\noptions timeout:1 attempts:1", "", "a.example. 60 IN A 10.1.2.3")
	g := guestOf(t, networkOf(t, h.Resolver))
	if got := said(asks(t, g, "udp", "a.example.", dns.TypeA)); got != "NOERROR 10.1.2.3" {
		t.Error(got)
	}
	h.ResolvConf = filepath.Join(t.TempDir(), "gone")
	if got := said(asks(t, g, "udp", "a.example.", dns.TypeA)); got != "NOERROR 10.1.2.3" {
		t.Errorf("no resolv.conf means a server on the host itself: %s", got)
	}
	h.Port = guesttest.FreePort(t, "127.0.0.1:0")
	if got := said(asks(t, g, "udp", "a.example.", dns.TypeA)); got != "SERVFAIL" {
		t.Errorf("nobody answers: %s", got)
	}
}

func TestDNSKnowsTheHostServicesOnlyWhileOneIsOpen(t *testing.T) {
	// Docker writes a name of these into the hosts file, and some resolvers make one up.
	h := newHostWith(t, "search corp.example", "10.0.0.9 host.docker.internal\n",
		"host.openshell.internal. 60 IN A 10.0.0.8", "host.gateway.internal. 60 IN A 10.0.0.7")
	n := networkOf(t, h.Resolver)
	g := guestOf(t, n)
	names := []string{"host.openshell.internal.", "host.docker.internal.", "HOST.gateway.internal."}
	expect := func(when, want string) {
		t.Helper()
		for _, name := range names {
			if got := said(asks(t, g, "udp", name, dns.TypeA)); got != want {
				t.Errorf("%s: %s is %s", when, name, got)
			}
		}
	}
	expect("no service", "NXDOMAIN")
	if err := n.Relays.Services.Add(config.HostService{GuestPort: 80, HostPort: 80}); err != nil {
		t.Fatal(err)
	}
	expect("one service", "NOERROR 192.168.127.253")
	if reply := asks(t, g, "udp", names[0], dns.TypeAAAA); said(reply) != "NOERROR" {
		t.Errorf("AAAA: %s", said(reply))
	}
	if reply := asks(t, g, "tcp", names[0], dns.TypeA); reply.Answer[0].Header().Ttl > serviceTTL {
		t.Errorf("it may be remembered for %d s", reply.Answer[0].Header().Ttl)
	}
	if err := n.Relays.Services.Remove(80); err != nil {
		t.Fatal(err)
	}
	expect("no service again", "NXDOMAIN")
	if asked := h.questions(); asked != "" {
		t.Errorf("the host's resolver was asked for %s", asked)
	}
}

func TestDNSLetsAMacAskItsSystem(t *testing.T) {
	h := newHostWith(t, "", "")
	h.System = func(_ context.Context, name string) ([]net.IP, error) {
		switch name {
		case "a.vpn.":
			return []net.IP{net.IPv4(10, 8, 0, 1)}, nil
		case "word":
			return []net.IP{net.IPv4(10, 8, 0, 2)}, nil
		case "unknown.vpn.":
			return nil, &net.DNSError{IsNotFound: true}
		}
		return nil, &net.DNSError{IsTemporary: true}
	}
	g := guestOf(t, networkOf(t, h.Resolver))
	for name, want := range map[string]string{
		"a.vpn.": "NOERROR 10.8.0.1", "word.": "NOERROR 10.8.0.2", "unknown.vpn.": "NXDOMAIN", "fails.vpn.": "SERVFAIL",
	} {
		if got := said(asks(t, g, "udp", name, dns.TypeA)); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}
