package egress

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/header/parse"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// RefusesICMP tells whether an IPv4 packet is ICMP that is not let through, counts it then, and whether its
// sender is to be told. What is not whole is left to the stack, which drops it.
func (p *Policy) RefusesICMP(packet *stack.PacketBuffer) (refused, told bool) {
	view, ok := packet.Data().PullUp(header.IPv4MinimumSize)
	if !ok || header.IPv4(view).Protocol() != uint8(header.ICMPv4ProtocolNumber) {
		return false, false
	}
	ip := header.IPv4(view)
	target := netip.AddrFrom4(ip.DestinationAddress().As4())
	if target == p.config.Addresses.Gateway || target == p.config.Addresses.Service {
		return false, false
	}
	why := p.judge(kindICMP, target, 0)
	if why == reachable {
		return false, false
	}
	if ip.FragmentOffset() != 0 || !ip.IsValid(packet.Data().Size()) || !parse.IPv4(packet) || !parse.ICMPv4(packet) {
		return true, false
	}
	if why == reasonVirtual {
		return true, false // nobody is there, as on any network
	}
	if header.ICMPv4(packet.TransportHeader().Slice()).Type() == header.ICMPv4Echo {
		p.Refused.add(kindICMP, target.String, why)
	}
	return true, true
}
