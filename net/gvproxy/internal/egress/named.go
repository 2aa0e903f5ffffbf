package egress

import (
	"context"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/names"
)

const (
	// namedLookupTimeout bounds how long a connection waits for the addresses of a name, namedTTL how long they are used.
	namedLookupTimeout = 5 * time.Second
	namedTTL           = 5 * time.Second
)

// namedHost is a host by its name. The guest has no say in what the name means: the host's resolver is asked.
type namedHost struct {
	question dns.Question
	resolver *names.Resolver

	lock sync.Mutex
	at   time.Time
	all  map[netip.Addr]bool
}

func newNamedHost(name string, resolver *names.Resolver) *namedHost {
	question := dns.Question{Name: strings.ToLower(dns.Fqdn(name)), Qtype: dns.TypeA, Qclass: dns.ClassINET}
	return &namedHost{question: question, resolver: resolver}
}

// leadsTo tells whether the name has the address now. Connections that come meanwhile wait for the one look-up.
func (h *namedHost) leadsTo(ip netip.Addr) bool {
	h.lock.Lock()
	defer h.lock.Unlock()
	if h.all == nil || time.Since(h.at) > namedTTL {
		ctx, cancel := context.WithTimeout(context.Background(), namedLookupTimeout)
		defer cancel()
		h.all = map[netip.Addr]bool{}
		for _, record := range h.resolver.Resolve(ctx, h.question).Answer {
			if found, ok := record.(*dns.A); ok {
				if address, ok := netip.AddrFromSlice(found.A); ok {
					h.all[address.Unmap()] = true
				}
			}
		}
		h.at = time.Now()
	}
	return h.all[ip]
}

// maybeNamed tells whether a look-up can open what was refused for this reason.
func (p *Policy) maybeNamed(why reason, port uint16) bool {
	return why != reasonVirtual && why != reasonNever && len(p.named[port]) > 0
}

func (p *Policy) isNamed(ip netip.Addr, port uint16) bool {
	for _, host := range p.named[port] {
		if host.leadsTo(ip) {
			return true
		}
	}
	return false
}

// MayAsk tells whether the guest may look a name up. With nothing open a question would carry data out by
// itself, so only names of the settings are asked for, and those of the host's hosts file, which nobody is asked for.
func (p *Policy) MayAsk(question dns.Question, host *names.Resolver) bool {
	if p.config.Egress != config.EgressNone {
		return true
	}
	for _, hosts := range p.named {
		for _, one := range hosts {
			if strings.EqualFold(one.question.Name, question.Name) {
				return true
			}
		}
	}
	if question.Qtype == dns.TypeAAAA {
		question.Qtype = dns.TypeA
	}
	if host.FromHosts(question) != nil {
		return true
	}
	p.Refused.add(kindDNS, func() string { return strings.TrimSuffix(question.Name, ".") }, reasonNone)
	return false
}
