package names

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

// FromHosts gives the address of a name that the hosts file has, nil for everything else: a registry or a
// mirror that the user named may be known only there. Names of an address are not given, since with
// them a guest could list the file. An address of IPv6 makes a name known, and is no answer to the guest.
func (r *Resolver) FromHosts(question dns.Question) *dns.Msg {
	if question.Qtype != dns.TypeA {
		return nil
	}
	return r.addressesInHosts(question.Name)
}

func (r *Resolver) addressesInHosts(name string) *dns.Msg {
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
				reply.Answer = append(reply.Answer, AddressRecord(name, address.AsSlice(), 0))
			}
			return
		}
	})
	return reply
}

// eachHost hands out the lines of the hosts file. It keeps nothing of it: some hold a hundred thousand
// names that are to be blocked.
func (r *Resolver) eachHost(line func(address netip.Addr, names []string)) {
	file, err := os.Open(r.Hosts)
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
