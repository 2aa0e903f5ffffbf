// Package names finds names as this host does. It must not judge who may ask for them.
package names

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// MaxUDPReply keeps an answer in one frame; a longer one is asked for again by TCP.
const MaxUDPReply = 1232

// Resolver looks names up in a hosts file, at the name servers of a resolv.conf, and a name of one word in
// its search domains. Both files are read for each question, so a change of networks counts at once.
type Resolver struct {
	// ResolvConf and Hosts are the paths of the two files.
	ResolvConf, Hosts string
	// Port of the name servers.
	Port string
	// System, where set, asks the system instead of the name servers for addresses.
	System func(ctx context.Context, name string) ([]net.IP, error)
}

// OfHost is this host's. A Mac has name servers that its resolv.conf does not show (VPNs).
func OfHost() *Resolver {
	r := &Resolver{ResolvConf: "/etc/resolv.conf", Hosts: "/etc/hosts", Port: "53"}
	if runtime.GOOS == "darwin" {
		r.System = func(ctx context.Context, name string) ([]net.IP, error) {
			return net.DefaultResolver.LookupIP(ctx, "ip4", name)
		}
	}
	return r
}

// Resolve answers a question about an absolute name. It returns a code, answers and authorities.
func (r *Resolver) Resolve(ctx context.Context, question dns.Question) *dns.Msg {
	if reply := r.FromHosts(question); reply != nil {
		return reply
	}
	if r.System != nil && question.Qtype == dns.TypeA {
		return r.fromSystem(ctx, question)
	}
	settings := r.settings()
	if dns.CountLabel(question.Name) != 1 {
		return r.ask(ctx, settings, question)
	}
	var failed *dns.Msg
	for _, domain := range settings.Search {
		reply := r.inDomain(ctx, settings, question, domain)
		if reply.Rcode == dns.RcodeSuccess && len(reply.Answer) > 0 {
			return reply
		}
		if reply.Rcode != dns.RcodeSuccess && reply.Rcode != dns.RcodeNameError {
			failed = reply
		}
	}
	reply := r.ask(ctx, settings, question)
	if failed != nil && reply.Rcode == dns.RcodeNameError {
		// Nobody knows whether the word is a name of that domain.
		return failed
	}
	return reply
}

// inDomain looks for a word in a search domain. The answer begins with an alias, so that it is one to
// the question that was asked.
func (r *Resolver) inDomain(ctx context.Context, settings *dns.ClientConfig, question dns.Question, domain string) *dns.Msg {
	longer := question
	longer.Name = question.Name + dns.Fqdn(strings.TrimPrefix(domain, "."))
	if _, ok := dns.IsDomainName(longer.Name); !ok || domain == "." {
		return code(dns.RcodeNameError)
	}
	reply := r.FromHosts(longer)
	if reply == nil {
		reply = r.ask(ctx, settings, longer)
	}
	if len(reply.Answer) > 0 {
		alias := &dns.CNAME{
			Hdr: recordHeader(question.Name, dns.TypeCNAME, reply.Answer[0].Header().Ttl), Target: longer.Name,
		}
		reply.Answer = append([]dns.RR{alias}, reply.Answer...)
	}
	return reply
}

// fromSystem asks the system, which knows its own search domains.
func (r *Resolver) fromSystem(ctx context.Context, question dns.Question) *dns.Msg {
	name := question.Name
	if dns.CountLabel(name) == 1 {
		name = strings.TrimSuffix(name, ".")
	}
	addresses, err := r.System(ctx, name)
	var unknown *net.DNSError
	if errors.As(err, &unknown) && unknown.IsNotFound {
		return code(dns.RcodeNameError)
	}
	if err != nil {
		slog.Debug("DNS", "name", name, "error", err)
		return code(dns.RcodeServerFailure)
	}
	reply := code(dns.RcodeSuccess)
	for _, address := range addresses {
		if four := address.To4(); four != nil {
			reply.Answer = append(reply.Answer, AddressRecord(question.Name, four, 0))
		}
	}
	return reply
}

func code(rcode int) *dns.Msg { return &dns.Msg{MsgHdr: dns.MsgHdr{Rcode: rcode}} }

// settings reads resolv.conf. As everywhere, a host that names no server has one on itself.
func (r *Resolver) settings() *dns.ClientConfig {
	settings, err := dns.ClientConfigFromFile(r.ResolvConf)
	if err != nil {
		settings = &dns.ClientConfig{Timeout: 5, Attempts: 2}
	}
	if len(settings.Servers) == 0 {
		settings.Servers = []string{"127.0.0.1"}
	}
	return settings
}

// ask asks the name servers in order until one knows. A server's failure is passed on as one: it does
// not mean that the name does not exist.
func (r *Resolver) ask(ctx context.Context, settings *dns.ClientConfig, question dns.Question) *dns.Msg {
	failure := code(dns.RcodeServerFailure)
	for range settings.Attempts {
		for _, server := range settings.Servers {
			if ctx.Err() != nil {
				return failure
			}
			timeout := time.Duration(settings.Timeout) * time.Second
			reply, err := exchange(ctx, net.JoinHostPort(server, r.Port), question, timeout)
			if err != nil {
				slog.Debug("DNS", "server", server, "name", question.Name, "error", err)
				continue
			}
			if reply.Rcode == dns.RcodeSuccess || reply.Rcode == dns.RcodeNameError {
				return reply
			}
			failure = code(reply.Rcode)
		}
	}
	return failure
}

// exchange asks one server by UDP, and by TCP when the answer is too long for that.
func exchange(ctx context.Context, server string, question dns.Question, timeout time.Duration) (*dns.Msg, error) {
	query := new(dns.Msg)
	query.Id, query.RecursionDesired, query.Question = dns.Id(), true, []dns.Question{question}
	query.SetEdns0(MaxUDPReply, false)
	reply, err := exchangeBy(ctx, "udp", server, query, timeout)
	if err == nil && reply.Rcode == dns.RcodeFormatError {
		// A server older than EDNS.
		query.Extra = nil
		reply, err = exchangeBy(ctx, "udp", server, query, timeout)
	}
	if err == nil && reply.Truncated {
		return exchangeBy(ctx, "tcp", server, query, timeout)
	}
	return reply, err
}

func exchangeBy(ctx context.Context, by, server string, query *dns.Msg, timeout time.Duration) (*dns.Msg, error) {
	client := &dns.Client{Net: by, Timeout: timeout}
	reply, _, err := client.ExchangeContext(ctx, query, server)
	if err != nil {
		return nil, err
	}
	asked := query.Question[0]
	if len(reply.Question) == 1 && reply.Question[0].Qtype == asked.Qtype &&
		strings.EqualFold(reply.Question[0].Name, asked.Name) {
		return reply, nil
	}
	return nil, fmt.Errorf("it answered another question")
}

func recordHeader(name string, kind uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET, Ttl: ttl}
}

// AddressRecord says that a name has an address of IPv4.
func AddressRecord(name string, address net.IP, ttl uint32) dns.RR {
	return &dns.A{Hdr: recordHeader(name, dns.TypeA, ttl), A: address}
}
