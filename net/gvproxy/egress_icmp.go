package main

import (
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/header/parse"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// The stack answers pings to any address by itself, and its handlers see them only beside that. So what
// the guest may not reach is taken out before the stack, between the link and it.

// icmpLink is a link whose ICMP packets are looked at on their way to the stack.
type icmpLink struct {
	stack.LinkEndpoint
	network *Network
}

// Attach puts the look between the link and the stack's dispatcher.
func (l *icmpLink) Attach(dispatcher stack.NetworkDispatcher) {
	if dispatcher != nil {
		dispatcher = &icmpDispatcher{dispatcher, l.network}
	}
	l.LinkEndpoint.Attach(dispatcher)
}

type icmpDispatcher struct {
	stack.NetworkDispatcher
	network *Network
}

// DeliverNetworkPacket passes on everything but ICMP to what the guest may not reach.
func (d *icmpDispatcher) DeliverNetworkPacket(protocol tcpip.NetworkProtocolNumber, packet *stack.PacketBuffer) {
	if protocol == ipv4.ProtocolNumber && d.network.refuseICMP(packet) {
		return
	}
	d.NetworkDispatcher.DeliverNetworkPacket(protocol, packet)
}

// refuseICMP tells whether the packet is ICMP that is not let through, and answers it then. What is not
// whole is left to the stack, which drops it.
func (n *Network) refuseICMP(packet *stack.PacketBuffer) bool {
	view, ok := packet.Data().PullUp(header.IPv4MinimumSize)
	if !ok || header.IPv4(view).Protocol() != uint8(header.ICMPv4ProtocolNumber) {
		return false
	}
	ip := header.IPv4(view)
	target := netip.AddrFrom4(ip.DestinationAddress().As4())
	if target == n.config.Addresses.Gateway || target == n.config.Addresses.Service {
		return false
	}
	why := n.egress.judge(kindICMP, target, 0)
	if why == reachable {
		return false
	}
	if ip.FragmentOffset() != 0 || !ip.IsValid(packet.Data().Size()) || !parse.IPv4(packet) || !parse.ICMPv4(packet) {
		return true
	}
	if why == reasonVirtual {
		return true // nobody is there, as on any network
	}
	if header.ICMPv4(packet.TransportHeader().Slice()).Type() == header.ICMPv4Echo {
		n.egress.refused.add(kindICMP, target.String, why)
	}
	packet.NICID = nicID
	if reject, ok := n.stack.NetworkProtocolInstance(ipv4.ProtocolNumber).(stack.RejectIPv4WithHandler); ok {
		_ = reject.SendRejectionError(packet, stack.RejectIPv4WithICMPAdminProhibited, true)
	}
	return true
}
