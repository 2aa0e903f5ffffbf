package main

import (
	"bufio"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/miekg/dns"
)

// maxHostsFile is as much of a hosts file as is read.
const maxHostsFile = 16 << 20

// fromHosts answers from the hosts file, nil when it has nothing about the question's name. An address
// of IPv6 makes a name known, and is no answer to the guest.
func (r *hostResolver) fromHosts(question dns.Question) *dns.Msg {
	switch question.Qtype {
	case dns.TypeA:
		return r.addressesInHosts(question.Name)
	case dns.TypePTR:
		return r.namesInHosts(question.Name)
	}
	return nil
}

func (r *hostResolver) addressesInHosts(name string) *dns.Msg {
	wanted := strings.TrimSuffix(name, ".")
	var reply *dns.Msg
	r.eachHost(func(address netip.Addr, names []string) {
		for _, one := range names {
			if !strings.EqualFold(strings.TrimSuffix(one, "."), wanted) {
				continue
			}
			if reply == nil {
				reply = code(dns.RcodeSuccess)
			}
			if address.Is4() {
				reply.Answer = append(reply.Answer, addressRecord(name, address.AsSlice(), 0))
			}
			return
		}
	})
	return reply
}

func (r *hostResolver) namesInHosts(name string) *dns.Msg {
	var reply *dns.Msg
	r.eachHost(func(address netip.Addr, names []string) {
		reverse, err := dns.ReverseAddr(address.WithZone("").String())
		if err != nil || !strings.EqualFold(reverse, name) {
			return
		}
		if reply == nil {
			reply = code(dns.RcodeSuccess)
		}
		for _, one := range names {
			if _, ok := dns.IsDomainName(one); ok {
				record := &dns.PTR{Hdr: recordHeader(name, dns.TypePTR, 0), Ptr: dns.Fqdn(one)}
				reply.Answer = append(reply.Answer, record)
			}
		}
	})
	return reply
}

// eachHost hands out the lines of the hosts file. It keeps nothing of it: some hold a hundred thousand
// names that are to be blocked.
func (r *hostResolver) eachHost(line func(address netip.Addr, names []string)) {
	file, err := os.Open(r.hosts)
	if err != nil {
		return
	}
	defer file.Close()
	scanner := bufio.NewScanner(io.LimitReader(file, maxHostsFile))
	for scanner.Scan() {
		text, _, _ := strings.Cut(scanner.Text(), "#")
		fields := strings.Fields(text)
		if len(fields) < 2 {
			continue
		}
		if address, err := netip.ParseAddr(fields[0]); err == nil {
			line(address.Unmap(), fields[1:])
		}
	}
}
