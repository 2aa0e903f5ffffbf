package network

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"gateway.local/gvproxy/internal/config"
)

const (
	leaseTime = time.Hour
	// maxDHCP is the longest message that is read.
	maxDHCP = 4096
)

// serveDHCP answers the one guest of the network. The library's server hands an address to every
// hardware address, starts a goroutine for each message and logs each that it does not know.
func (n *Network) serveDHCP() error {
	var queue waiter.Queue
	endpoint, err := n.stack.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &queue)
	if err != nil {
		return errors.New(err.String())
	}
	endpoint.SocketOptions().SetBroadcast(true)
	if err := endpoint.Bind(tcpip.FullAddress{NIC: nicID, Port: dhcpv4.ServerPort}); err != nil {
		endpoint.Close()
		return errors.New(err.String())
	}
	packets := gonet.NewUDPConn(&queue, endpoint)
	go logEnd("DHCP", func() error { return answerDHCP(n.config, packets) })
	return nil
}

// answerDHCP answers one message after the other until the connection is closed.
func answerDHCP(c *config.Config, packets net.PacketConn) error {
	return eachDatagram(packets, maxDHCP, func(message []byte, from net.Addr) {
		reply := dhcpReply(c, message)
		if reply == nil {
			return
		}
		if _, err := packets.WriteTo(reply, dhcpClient(from)); err != nil {
			slog.Debug("DHCP answer", "error", err)
		}
	})
}

// dhcpClient is where a reply goes: to everybody while the client has no address.
func dhcpClient(from net.Addr) net.Addr {
	client, ok := from.(*net.UDPAddr)
	if ok && (client.IP == nil || client.IP.IsUnspecified()) {
		return &net.UDPAddr{IP: net.IPv4bcast, Port: client.Port}
	}
	return from
}

// dhcpReply offers the guest its address; nil is for messages of any other kind or sender.
func dhcpReply(c *config.Config, message []byte) []byte {
	request, err := dhcpv4.FromBytes(message)
	if err != nil || request.ClientHWAddr.String() != c.GuestMAC {
		return nil
	}
	kind := dhcpv4.MessageTypeNone
	switch request.MessageType() {
	case dhcpv4.MessageTypeDiscover:
		kind = dhcpv4.MessageTypeOffer
	case dhcpv4.MessageTypeRequest:
		kind = dhcpv4.MessageTypeAck
	default:
		return nil
	}
	gateway := net.IP(c.Addresses.Gateway.AsSlice())
	reply, err := dhcpv4.NewReplyFromRequest(request,
		dhcpv4.WithMessageType(kind),
		dhcpv4.WithYourIP(c.Addresses.Guest.AsSlice()),
		dhcpv4.WithOption(dhcpv4.OptServerIdentifier(gateway)),
		dhcpv4.WithOption(dhcpv4.OptIPAddressLeaseTime(leaseTime)),
		dhcpv4.WithNetmask(net.CIDRMask(c.Addresses.Subnet.Bits(), 32)),
		dhcpv4.WithRouter(gateway),
		dhcpv4.WithDNS(gateway),
		dhcpv4.WithOption(dhcpv4.OptGeneric(dhcpv4.OptionInterfaceMTU, binary.BigEndian.AppendUint16(nil, uint16(c.MTU)))),
	)
	if err != nil {
		return nil
	}
	return reply.ToBytes()
}
