// Package egress decides what the guest may reach by way of the host, and counts what it is refused.
// It must not connect to anything.
package egress

import (
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/names"
)

// neverReached is what no guest reaches through the host, whatever the host's routes say: the host
// itself (Linux connects 0.0.0.0 to the loopback), link-local and multicast addresses, and those where
// clouds hand out credentials to every program of a machine.
var neverReached = prefixes(
	"0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/4", "240.0.0.0/4",
	"169.254.0.0/16",     // nearly every cloud
	"168.63.129.16/32",   // Azure's wire server
	"100.100.100.200/32", // Alibaba
	"100.100.100.100/32", // the Tailscale program of this host
	"192.0.0.192/32",     // Oracle's older one
	"::/127", "fe80::/10", "fec0::/10", "ff00::/8",
	"fd00:ec2::/64",    // AWS
	"fd20:ce::254/128", // Google
)

func prefixes(texts ...string) []netip.Prefix {
	all := make([]netip.Prefix, len(texts))
	for i, text := range texts {
		all[i] = netip.MustParsePrefix(text)
	}
	return all
}

func within(all []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(all, func(prefix netip.Prefix) bool { return prefix.Contains(ip) })
}

// Forms of IPv6 that lead to an address of IPv4, and where in them it stands.
var carriers = []struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("::/96"), 12},          // IPv4-compatible
	{netip.MustParsePrefix("64:ff9b::/96"), 12},   // NAT64
	{netip.MustParsePrefix("64:ff9b:1::/48"), 12}, // NAT64 of one network
	{netip.MustParsePrefix("2002::/16"), 2},       // 6to4
}

// judged returns the address that a connection to ip leads to in the end.
func judged(ip netip.Addr) netip.Addr {
	ip = ip.WithZone("").Unmap()
	if ip.Is4() || ip.IsUnspecified() || ip.IsLoopback() {
		return ip
	}
	for _, carrier := range carriers {
		if carrier.prefix.Contains(ip) {
			bytes := ip.As16()
			return netip.AddrFrom4([4]byte(bytes[carrier.at : carrier.at+4]))
		}
	}
	return ip
}

// reserved are addresses that are not public, besides neverReached.
var reserved = prefixes(
	"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", // private
	"100.64.0.0/10",                                                      // shared by the customers of a provider, and Tailscale's
	"192.0.0.0/24",                                                       // protocols
	"192.88.99.0/24",                                                     // relays of 6to4
	"192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24", "198.18.0.0/15", // documentation and tests
	"2001::/23", "2001:db8::/32", "3fff::/20",
)

// publicIPv6 holds all public addresses of IPv6: unique-local ones are outside of it.
var publicIPv6 = netip.MustParsePrefix("2000::/3")

// reason says why an address is refused.
type reason string

const (
	reachable reason = ""
	// reasonVirtual: the virtual network has no such address. Nothing that was refused by choice.
	reasonVirtual reason = "virtual"
	// reasonNever: neverReached, which no setting opens.
	reasonNever reason = "never"
	// reasonPrivate, reasonHost: not public, or this host's own. reasonNone: nothing is open.
	reasonPrivate reason = "private"
	reasonHost    reason = "host"
	reasonNone    reason = "none"
)

// kind is the sort of traffic that a refusal is counted by.
type kind string

const (
	kindTCP  kind = "tcp"
	kindUDP  kind = "udp"
	kindICMP kind = "icmp"
	kindDNS  kind = "dns"
)

// opens tells whether the prefix is opened for this.
func opens(one config.Allowed, what kind, ip netip.Addr, port uint16) bool {
	if !one.Prefix.Contains(ip) || (one.TCPOnly && what != kindTCP) {
		return false
	}
	return one.Port == 0 || (what != kindICMP && one.Port == port)
}

// Policy is what the settings of one network let its guest reach.
type Policy struct {
	config *config.Config
	host   ownAddresses
	// Refused counts what was refused, and tells the first of each kind.
	Refused *Refusals
	// named are the hosts that the user's settings name, by port.
	named map[uint16][]*namedHost
}

// New is the policy of a configuration. Its names are looked up by the resolver.
func New(config *config.Config, resolver *names.Resolver) *Policy {
	p := &Policy{
		config: config, host: ownAddresses{read: net.InterfaceAddrs}, Refused: newRefusals(),
		named: map[uint16][]*namedHost{},
	}
	for _, one := range config.AllowHosts {
		if _, err := netip.ParseAddr(one.Host); err != nil {
			p.named[one.Port] = append(p.named[one.Port], newNamedHost(one.Host, resolver))
		}
	}
	return p
}

// judge says why the guest may not reach the address, as far as numbers tell. The virtual network itself
// is out: an address of it that nobody has must lead nowhere, even if the host's real network uses the
// same numbers.
func (p *Policy) judge(what kind, ip netip.Addr, port uint16) reason {
	ip = judged(ip)
	switch {
	case p.config.Addresses.Subnet.Contains(ip) || ip == limitedBroadcast:
		return reasonVirtual
	case within(neverReached, ip):
		return reasonNever
	}
	for _, one := range p.config.Allowed {
		if opens(one, what, ip, port) {
			return reachable
		}
	}
	switch {
	case p.config.Egress == config.EgressAll:
		return reachable
	case p.config.Egress == config.EgressNone:
		return reasonNone
	case within(reserved, ip) || (ip.Is6() && !publicIPv6.Contains(ip)):
		return reasonPrivate
	case p.host.has(ip):
		return reasonHost
	}
	return reachable
}

var limitedBroadcast = netip.MustParseAddr("255.255.255.255")

// MayTryTCP tells whether the stack may hand a segment on to a forwarder, and counts it when not. To a port
// of a host that the settings name the answer takes a look-up, so that Admits has the last word.
func (p *Policy) MayTryTCP(id stack.TransportEndpointID, packet *stack.PacketBuffer) bool {
	to := target(id)
	why := p.judge(kindTCP, to.Addr(), to.Port())
	if why == reachable || p.maybeNamed(why, to.Port()) {
		return true
	}
	flags := header.TCP(packet.TransportHeader().Slice()).Flags()
	if !flags.Contains(header.TCPFlagSyn) || flags.Contains(header.TCPFlagAck) {
		return false // the rest of a connection that is gone
	}
	p.Refused.add(kindTCP, to.String, why)
	return false
}

// Admits has the last word about a TCP connection, right before it is made.
func (p *Policy) Admits(id stack.TransportEndpointID) bool {
	to := target(id)
	why := p.judge(kindTCP, to.Addr(), to.Port())
	if why == reachable || (p.maybeNamed(why, to.Port()) && p.isNamed(to.Addr(), to.Port())) {
		return true
	}
	p.Refused.add(kindTCP, to.String, why)
	return false
}

// MayTryUDP tells whether the stack may hand a datagram on to a forwarder, and counts it when not.
func (p *Policy) MayTryUDP(id stack.TransportEndpointID) bool {
	to := target(id)
	why := p.judge(kindUDP, to.Addr(), to.Port())
	if why == reachable {
		return true
	}
	p.Refused.add(kindUDP, to.String, why)
	return false
}

// target is where the guest wants to go: the stack takes the packets of every address for its own.
func target(id stack.TransportEndpointID) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4(id.LocalAddress.As4()), id.LocalPort)
}

// ownAddresses are those of the host's interfaces, read at most once a second.
type ownAddresses struct {
	read func() ([]net.Addr, error)
	lock sync.Mutex
	at   time.Time
	all  map[netip.Addr]bool
}

// has tells whether the address is this host's. While they cannot be read, every address may be.
func (o *ownAddresses) has(ip netip.Addr) bool {
	o.lock.Lock()
	defer o.lock.Unlock()
	if o.all == nil || time.Since(o.at) > time.Second {
		found, err := o.read()
		if err != nil {
			slog.Error("the host's addresses cannot be read", "error", err)
			return true
		}
		o.at, o.all = time.Now(), map[netip.Addr]bool{}
		for _, one := range found {
			if prefix, err := netip.ParsePrefix(one.String()); err == nil {
				o.all[prefix.Addr().WithZone("").Unmap()] = true
			}
		}
	}
	return o.all[ip]
}
