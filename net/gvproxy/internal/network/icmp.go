package network

import (
	"gvisor.dev/gvisor/pkg/tcpip"
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
	if protocol == ipv4.ProtocolNumber {
		refused, told := d.network.Egress.RefusesICMP(packet)
		if told {
			d.network.prohibit(packet)
		}
		if refused {
			return
		}
	}
	d.NetworkDispatcher.DeliverNetworkPacket(protocol, packet)
}

// prohibit answers a packet that is not let through.
func (n *Network) prohibit(packet *stack.PacketBuffer) {
	packet.NICID = nicID
	if reject, ok := n.stack.NetworkProtocolInstance(ipv4.ProtocolNumber).(stack.RejectIPv4WithHandler); ok {
		_ = reject.SendRejectionError(packet, stack.RejectIPv4WithICMPAdminProhibited, true)
	}
}
