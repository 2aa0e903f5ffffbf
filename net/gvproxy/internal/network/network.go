// Package network is the virtual network of one guest: the VMM's link, the switch, and the gateway with its DHCP and DNS.
// It must not listen on the host, nor connect to anything there by itself.
package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"

	"github.com/containers/gvisor-tap-vsock/pkg/tap"
	"github.com/containers/gvisor-tap-vsock/pkg/types"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/arp"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/egress"
	"gateway.local/gvproxy/internal/limits"
	"gateway.local/gvproxy/internal/names"
	"gateway.local/gvproxy/internal/relay"
)

const (
	nicID = 1
	// SocketBuffer is the size of the buffers of a VMM's socket.
	SocketBuffer = 1 << 20
)

// Network is the virtual network of one guest: a switch, a user-space IP stack that plays the
// gateway, DHCP and DNS on it, and the relays to the host's own network.
//
// It is put together here from the library's parts, not by the library's virtualnetwork.New, because
// that one dials whatever address the guest names (its own subnet and 0.0.0.0, which is the host's
// loopback, among them) and cannot be told not to.
type Network struct {
	config  *config.Config
	stack   *stack.Stack
	fabric  *tap.Switch
	pool    *tap.IPPool
	guests  atomic.Int64
	dropped atomic.Uint64
	// Relays carry what the guest has open, Egress decides what it may.
	Relays *relay.Relays
	Egress *egress.Policy

	currentLock sync.Mutex
	current     net.Conn
}

// Traffic is the part of GET /stats about the link.
type Traffic struct {
	// Guests is how many VMMs are connected: 0 or 1.
	Guests int64 `json:"guests"`
	// BytesFromGuest and BytesToGuest count Ethernet frames.
	BytesFromGuest uint64 `json:"bytesFromGuest"`
	BytesToGuest   uint64 `json:"bytesToGuest"`
	// DroppedFrames counts what was not a frame of the guest, or found no room.
	DroppedFrames uint64 `json:"droppedFrames"`
}

// New builds the network, whose DNS asks resolver; nothing listens on the host after it.
func New(c *config.Config, resolver *names.Resolver) (*Network, error) {
	// The gateway answers ARP for the host services' address, too, whether one is open or not.
	virtual := []string{c.ServiceIP}
	endpoint, err := tap.NewLinkEndpoint(false, uint32(c.MTU), config.GatewayMAC, c.GatewayIP, virtual)
	if err != nil {
		return nil, err
	}
	fabric := tap.NewSwitch(false)
	endpoint.Connect(fabric)
	fabric.Connect(endpoint)
	_, subnet, err := net.ParseCIDR(c.Subnet)
	if err != nil {
		return nil, err
	}
	n := &Network{config: c, fabric: fabric, pool: tap.NewIPPool(subnet), Egress: egress.New(c, resolver)}
	if n.stack, err = newStack(c, &icmpLink{endpoint, n}); err != nil {
		return nil, err
	}
	n.Relays = relay.New(c, n.stack, nicID, n.Egress)
	for _, service := range c.HostServices {
		if err := n.Relays.Services.Add(service); err != nil {
			return nil, err
		}
	}
	n.pool.Reserve(net.ParseIP(c.GatewayIP), config.GatewayMAC)
	n.pool.Reserve(net.ParseIP(c.GuestIP), c.GuestMAC)
	n.pool.Reserve(net.ParseIP(c.ServiceIP), config.GatewayMAC)
	if err := n.serveDNS(resolver); err != nil {
		return nil, fmt.Errorf("DNS: %w", err)
	}
	if err := n.serveDHCP(); err != nil {
		return nil, fmt.Errorf("DHCP: %w", err)
	}
	return n, nil
}

func newStack(config *config.Config, endpoint stack.LinkEndpoint) (*stack.Stack, error) {
	s := stack.New(stack.Options{
		NetworkProtocols:   []stack.NetworkProtocolFactory{ipv4.NewProtocol, arp.NewProtocol},
		TransportProtocols: []stack.TransportProtocolFactory{tcp.NewProtocol, udp.NewProtocol, icmp.NewProtocol4},
	})
	if err := s.CreateNIC(nicID, endpoint); err != nil {
		return nil, errors.New(err.String())
	}
	address := tcpip.ProtocolAddress{
		Protocol:          ipv4.ProtocolNumber,
		AddressWithPrefix: tcpip.AddrFrom4(config.Addresses.Gateway.As4()).WithPrefix(),
	}
	if err := s.AddProtocolAddress(nicID, address, stack.AddressProperties{}); err != nil {
		return nil, errors.New(err.String())
	}
	// On a very busy machine about one bulk test in fifty hung in retransmission time-outs with this
	// version's RACK loss detection; none of some seventy did without it. The cause was not found.
	noRACK := tcpip.TCPRecovery(0)
	if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, &noRACK); err != nil {
		return nil, errors.New(err.String())
	}
	if err := limits.Stack(s); err != nil {
		return nil, errors.New(err.String())
	}
	// The gateway answers for every address beyond it, hence both.
	s.SetSpoofing(nicID, true)
	s.SetPromiscuousMode(nicID, true)
	mask := net.CIDRMask(config.Addresses.Subnet.Bits(), 32)
	subnet, err := tcpip.NewSubnet(tcpip.AddrFrom4(config.Addresses.Subnet.Addr().As4()), tcpip.MaskFromBytes(mask))
	if err != nil {
		return nil, err
	}
	s.SetRouteTable([]tcpip.Route{{Destination: subnet, NIC: nicID}})
	return s, nil
}

// Leases are the addresses that are given away, and to whom.
func (n *Network) Leases() map[string]string { return n.pool.Leases() }

// Traffic returns the counts of the link.
func (n *Network) Traffic() Traffic {
	return Traffic{
		Guests:         n.guests.Load(),
		BytesFromGuest: atomic.LoadUint64(&n.fabric.Received),
		BytesToGuest:   atomic.LoadUint64(&n.fabric.Sent),
		DroppedFrames:  n.dropped.Load(),
	}
}

// AcceptStream serves VMMs until the listener is closed. There is one guest to a network: a new
// connection, of a VMM started again or restored, takes the place of the old one.
func (n *Network) AcceptStream(listener *net.UnixListener) {
	relay.AcceptAll(listener, func(conn net.Conn) {
		if unix, ok := conn.(*net.UnixConn); ok {
			_ = unix.SetWriteBuffer(SocketBuffer)
			_ = unix.SetReadBuffer(SocketBuffer)
		}
		n.replace(conn)
		go n.serveGuest(conn)
	})
}

// replace makes conn the guest and drops the one before it.
func (n *Network) replace(conn net.Conn) {
	n.currentLock.Lock()
	old := n.current
	n.current = conn
	n.currentLock.Unlock()
	if old != nil {
		_ = old.Close()
	}
}

func (n *Network) serveGuest(conn net.Conn) {
	n.guests.Add(1)
	slog.Info("guest connected")
	_ = n.fabric.Accept(context.Background(), newStreamGuest(conn, n.config.Addresses.GuestMAC, &n.dropped), types.QemuProtocol)
	n.guests.Add(-1)
	n.currentLock.Lock()
	last := n.current == conn
	if last {
		n.current = nil
	}
	n.currentLock.Unlock()
	// What the guest had open is lost with it; peers should learn that now and not by a timeout.
	closed := 0
	if last {
		closed = n.Relays.CloseAll()
	}
	slog.Info("guest disconnected", "connectionsClosed", closed)
}

// ServeDatagram serves the datagram socket until it is closed.
func (n *Network) ServeDatagram(conn *net.UnixConn) {
	guest := newDatagramGuest(conn, n.config.Addresses.GuestMAC, &n.dropped, func(peer string) {
		closed := n.Relays.CloseAll()
		n.guests.Store(1)
		slog.Info("guest connected", "peer", peer, "connectionsClosed", closed)
	})
	_ = n.fabric.Accept(context.Background(), guest, types.VfkitProtocol)
}
