package main

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
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

// mayReach tells whether the guest may reach the address by way of the host. The virtual network
// itself is out: an address of it that nobody has must lead nowhere, even if the host's real network
// uses the same numbers.
func (c *Config) mayReach(ip netip.Addr) bool {
	ip = judged(ip)
	contains := func(prefix netip.Prefix) bool { return prefix.Contains(ip) }
	return !contains(c.subnet) && !slices.ContainsFunc(neverReached, contains)
}

// mayDial is mayReach for an address as the stack has it.
func (n *Network) mayDial(address tcpip.Address) bool {
	ip, ok := netip.AddrFromSlice(address.AsSlice())
	return ok && n.config.mayReach(ip)
}

// dialUDP opens a flow to one host. To the broadcast address of a network of this host it fails, which
// no list of addresses knows: Go lets each UDP socket send there.
func dialUDP(target string) (net.Conn, error) {
	dialer := net.Dialer{Control: func(_, _ string, conn syscall.RawConn) error {
		var refused error
		err := conn.Control(func(socket uintptr) {
			refused = syscall.SetsockoptInt(int(socket), syscall.SOL_SOCKET, syscall.SO_BROADCAST, 0)
		})
		return errors.Join(err, refused)
	}}
	return dialer.Dial("udp4", target)
}
