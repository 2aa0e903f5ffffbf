package relay

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"gateway.local/gvproxy/internal/limits"
)

const (
	dialTimeout = 30 * time.Second
	// closeTimeout is how long a guest may take to finish a connection that was closed. A connection
	// that it does not finish is counted until then, and reset.
	closeTimeout = 60 * time.Second
)

// serveOutbound relays what the guest sends to the world and to the host's chosen services. A refused
// connection gets a reset from the stack, since the handler says "not mine", a refused datagram ICMP's "port unreachable".
func (s *Relays) serveOutbound() {
	// The forwarders' own limit drops in silence, so that what is refused has to come before it.
	toWorld := tcp.NewForwarder(s.stack, limits.StartTCPBuffer, 2*limits.MaxConnections, s.relayTCP)
	toHost := tcp.NewForwarder(s.stack, limits.StartTCPBuffer, 2*limits.MaxConnections, s.relayService)
	serviceAddress := tcpip.AddrFrom4(s.config.Addresses.Service.As4())
	s.stack.SetTransportProtocolHandler(tcp.ProtocolNumber,
		func(id stack.TransportEndpointID, packet *stack.PacketBuffer) bool {
			if id.LocalAddress == serviceAddress {
				return toHost.HandlePacket(id, packet)
			}
			return s.egress.MayTryTCP(id, packet) && toWorld.HandlePacket(id, packet)
		})
	udpForwarder := udp.NewForwarder(s.stack, s.relayUDP)
	s.stack.SetTransportProtocolHandler(udp.ProtocolNumber,
		func(id stack.TransportEndpointID, packet *stack.PacketBuffer) bool {
			return s.egress.MayTryUDP(id) && udpForwarder.HandlePacket(id, packet)
		})
}

func hostPort(address tcpip.Address, port uint16) string {
	return netip.AddrPortFrom(netip.AddrFrom4(address.As4()), port).String()
}

// relayTCP connects first and answers the guest's SYN after, so that the guest sees a refusal as one.
func (s *Relays) relayTCP(request *tcp.ForwarderRequest) {
	target := hostPort(request.ID().LocalAddress, request.ID().LocalPort)
	if !limits.Reserve(&s.opened, limits.MaxConnections) {
		slog.Debug("the guest has too many connections", "target", target)
		request.Complete(true)
		return
	}
	defer s.opened.Add(-1)
	if !s.egress.Admits(request.ID()) {
		request.Complete(true)
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), dialTimeout)
	defer cancel()
	outbound, err := dialTCP(ctx, "tcp4", target)
	if err != nil {
		slog.Debug("outbound refused", "target", target, "error", err)
		request.Complete(true)
		return
	}
	if guest := s.acceptFor(request, outbound); guest != nil {
		s.run(guest, outbound)
		guest.settle()
	}
}

// acceptFor answers a guest's SYN once its other end is connected; nil, with the other end closed, when the guest is gone.
func (s *Relays) acceptFor(request *tcp.ForwarderRequest, outbound *net.TCPConn) *guestConn {
	var queue waiter.Queue
	endpoint, err := request.CreateEndpoint(&queue)
	request.Complete(false)
	if err != nil {
		_ = outbound.Close()
		return nil
	}
	setKeepalive(endpoint)
	size := int64(limits.TCPBuffer(int(s.opened.Load())))
	endpoint.SocketOptions().SetReceiveBufferSize(size, true)
	endpoint.SocketOptions().SetSendBufferSize(size, true)
	return &guestConn{gonet.NewTCPConn(&queue, endpoint), endpoint}
}

// dialTCP connects to another end than itself: when nobody listens on a port that the system also
// gives to clients, a connection to it can meet itself, and would hold the port of a service that is down.
func dialTCP(ctx context.Context, network, target string) (*net.TCPConn, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, network, target)
	if err != nil {
		return nil, err
	}
	return refuseItself(conn.(*net.TCPConn))
}

func refuseItself(conn *net.TCPConn) (*net.TCPConn, error) {
	if conn.LocalAddr().String() != conn.RemoteAddr().String() {
		return conn, nil
	}
	_ = conn.SetLinger(0)
	_ = conn.Close()
	return nil, syscall.ECONNREFUSED
}

// setKeepalive lets a connection to a guest that is gone end after two minutes.
func setKeepalive(endpoint tcpip.Endpoint) {
	idle := tcpip.KeepaliveIdleOption(60 * time.Second)
	interval := tcpip.KeepaliveIntervalOption(15 * time.Second)
	_ = endpoint.SetSockOpt(&idle)
	_ = endpoint.SetSockOpt(&interval)
	_ = endpoint.SetSockOptInt(tcpip.KeepaliveCountOption, 4)
	endpoint.SocketOptions().SetKeepAlive(true)
}

// guestConn is a connection that the guest opened.
type guestConn struct {
	*gonet.TCPConn
	endpoint tcpip.Endpoint
}

// settle waits until the guest has finished the closed connection too, at most closeTimeout. The stack
// keeps a connection that the guest does not finish, and nobody else counts it.
func (c *guestConn) settle() {
	pause := time.Millisecond
	for deadline := time.Now().Add(closeTimeout); time.Now().Before(deadline); pause = min(2*pause, time.Second) {
		switch tcp.EndpointState(c.endpoint.State()) {
		case tcp.StateClose, tcp.StateError, tcp.StateTimeWait:
			return
		}
		time.Sleep(pause)
	}
	c.endpoint.Abort()
}
