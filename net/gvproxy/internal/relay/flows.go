package relay

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"gateway.local/gvproxy/internal/limits"
)

const (
	udpIdleTimeout  = 90 * time.Second
	maxDatagramSize = 65507
)

// datagrams are buffers for one datagram. A flow takes one only while it has a datagram in its hands, so
// that idle flows cost none.
var datagrams = sync.Pool{New: func() any { return new([maxDatagramSize]byte) }}

// udpEnd is the guest's side of a UDP flow.
type udpEnd struct {
	endpoint tcpip.Endpoint
	queue    *waiter.Queue
	// idle closes the flow after udpIdleTimeout without a datagram in either direction.
	idle *time.Timer
	// closed makes later calls of close harmless; the endpoint's own may be called once.
	closed sync.Once
}

func newUDPEnd(endpoint tcpip.Endpoint, queue *waiter.Queue) *udpEnd {
	u := &udpEnd{endpoint: endpoint, queue: queue}
	u.idle = time.AfterFunc(udpIdleTimeout, u.close)
	return u
}

// dialGuestUDP opens a flow to the guest.
func dialGuestUDP(s *stack.Stack, to tcpip.FullAddress) (*udpEnd, error) {
	var queue waiter.Queue
	endpoint, err := s.NewEndpoint(udp.ProtocolNumber, ipv4.ProtocolNumber, &queue)
	if err != nil {
		return nil, errors.New(err.String())
	}
	if err := endpoint.Connect(to); err != nil {
		endpoint.Close()
		return nil, errors.New(err.String())
	}
	return newUDPEnd(endpoint, &queue), nil
}

func (u *udpEnd) close() {
	u.closed.Do(func() {
		u.idle.Stop()
		u.endpoint.Close()
	})
}

// write sends a datagram to the guest, or drops it when the stack has no room.
func (u *udpEnd) write(datagram []byte) error {
	_, err := u.endpoint.Write(bytes.NewReader(datagram), tcpip.WriteOptions{})
	switch err.(type) {
	case nil, *tcpip.ErrWouldBlock, *tcpip.ErrNoBufferSpace:
		return nil
	}
	return errors.New(err.String())
}

// pump hands each datagram of the guest to send until either fails or the flow is closed.
func (u *udpEnd) pump(send func(datagram []byte) error) {
	entry, readable := waiter.NewChannelEntry(waiter.ReadableEvents | waiter.EventHUp | waiter.EventErr)
	u.queue.EventRegister(&entry)
	defer u.queue.EventUnregister(&entry)
	for {
		blocked, err := u.next(send)
		if err != nil {
			return
		}
		if blocked {
			<-readable
			continue
		}
		u.idle.Reset(udpIdleTimeout)
	}
}

// next hands on one datagram, or tells that there is none yet.
func (u *udpEnd) next(send func(datagram []byte) error) (blocked bool, err error) {
	buffer := datagrams.Get().(*[maxDatagramSize]byte)
	defer datagrams.Put(buffer)
	into := tcpip.SliceWriter(buffer[:])
	result, failure := u.endpoint.Read(&into, tcpip.ReadOptions{})
	if failure != nil {
		if _, ok := failure.(*tcpip.ErrWouldBlock); ok {
			return true, nil
		}
		return false, errors.New(failure.String())
	}
	return false, send(buffer[:result.Count])
}

// relayUDP opens one flow. Any error ends it, and the next datagram opens a new one: there is no
// loop here that could turn a lost network into a busy processor.
func (s *Relays) relayUDP(request *udp.ForwarderRequest) {
	if !limits.Reserve(&s.udpFlows, limits.MaxUDPFlows) {
		return
	}
	var queue waiter.Queue
	endpoint, err := request.CreateEndpoint(&queue)
	if err != nil {
		s.udpFlows.Add(-1)
		return
	}
	guest := newUDPEnd(endpoint, &queue)
	go func() {
		defer s.udpFlows.Add(-1)
		defer guest.close()
		target := hostPort(request.ID().LocalAddress, request.ID().LocalPort)
		outbound, err := dialUDP(target)
		if err != nil {
			slog.Debug("outbound refused", "target", target, "error", err)
			return
		}
		relayDatagrams(guest, outbound.(*net.UDPConn))
	}()
}

// relayDatagrams copies both ways until either side fails or is closed, and closes both.
func relayDatagrams(guest *udpEnd, outbound *net.UDPConn) {
	raw, err := outbound.SyscallConn()
	if err != nil {
		_ = outbound.Close()
		return
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer guest.close()
		for receiveInto(raw, guest) == nil {
			guest.idle.Reset(udpIdleTimeout)
		}
	}()
	guest.pump(func(datagram []byte) error { return sendNow(raw, datagram) })
	_ = outbound.Close()
	<-done
}

// receiveInto waits for one datagram of the host's socket and hands it to the guest.
func receiveInto(raw syscall.RawConn, guest *udpEnd) error {
	var failure error
	err := raw.Read(func(fd uintptr) bool {
		buffer := datagrams.Get().(*[maxDatagramSize]byte)
		defer datagrams.Put(buffer)
		size, err := syscall.Read(int(fd), buffer[:])
		switch err {
		case nil:
			failure = guest.write(buffer[:size])
		case syscall.EAGAIN:
			return false
		case syscall.EINTR:
		default:
			failure = err
		}
		return true
	})
	return errors.Join(err, failure)
}

// sendNow sends a datagram, or drops it when the host's socket is full, as a router does: to wait would
// let a guest fill the queues of many flows.
func sendNow(raw syscall.RawConn, datagram []byte) error {
	var failure error
	err := raw.Write(func(fd uintptr) bool {
		_, failure = syscall.Write(int(fd), datagram)
		return true
	})
	if errors.Is(failure, syscall.EAGAIN) || errors.Is(failure, syscall.ENOBUFS) {
		failure = nil
	}
	return errors.Join(err, failure)
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
