// Package relay carries TCP connections and UDP flows between the guest and its host's network: those that the guest
// opens, those to host services, and forwards. It must not decide what the guest may reach, nor know the VMM.
package relay

import (
	"io"
	"net"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/egress"
	"gateway.local/gvproxy/internal/limits"
)

// halfCloser is a stream connection that can end its sending side alone.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// Relays are the connections and flows between a guest and its host's network. The TCP connections that are
// being relayed, in both directions, can be counted and are closed together when the guest is gone.
type Relays struct {
	config *config.Config
	stack  *stack.Stack
	nic    tcpip.NICID
	egress *egress.Policy
	// Services are the host services, none at first.
	Services *Services

	lock      sync.Mutex
	active    map[*relay]struct{}
	opened    atomic.Int64 // by the guest
	forwarded atomic.Int64 // by clients of the host
	udpFlows  atomic.Int64
}

// New relays what the guest sends to the stack by that interface, as far as the policy lets it.
func New(config *config.Config, stack *stack.Stack, nic tcpip.NICID, policy *egress.Policy) *Relays {
	s := &Relays{config: config, stack: stack, nic: nic, egress: policy, active: map[*relay]struct{}{}}
	s.Services = &Services{relays: s, open: map[uint16]*openService{}}
	s.serveOutbound()
	return s
}

type relay struct {
	guest, host halfCloser
	// buffer is the size of the copying buffer of each direction.
	buffer int
}

// run copies between the two until both sides have ended, then closes them. It returns after that.
func (s *Relays) run(guest, host halfCloser) { s.serve(s.newRelay(guest, host)) }

func (s *Relays) newRelay(guest, host halfCloser) *relay {
	return &relay{guest, host, limits.CopyBuffer(s.Count() + 1)}
}

func (s *Relays) serve(r *relay) {
	s.lock.Lock()
	s.active[r] = struct{}{}
	s.lock.Unlock()
	defer func() {
		s.lock.Lock()
		delete(s.active, r)
		s.lock.Unlock()
		r.close()
	}()
	done := make(chan struct{})
	go func() {
		r.copy(r.guest, r.host)
		close(done)
	}()
	r.copy(r.host, r.guest)
	<-done
}

// copy moves one direction. Its normal end is passed on as an end of that direction only; an error
// ends both, since half of a broken connection is of no use.
func (r *relay) copy(to, from halfCloser) {
	// The bare interfaces keep io from taking a larger buffer by way of the connections' own methods.
	buffer := make([]byte, r.buffer)
	if _, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, buffer); err != nil {
		r.close()
		return
	}
	if err := to.CloseWrite(); err != nil {
		r.close()
	}
}

func (r *relay) close() {
	_ = r.guest.Close()
	_ = r.host.Close()
}

// reset closes the host's side with a reset, so that its peer does not take the cut for an end.
func (r *relay) reset() {
	if conn, ok := r.host.(*net.TCPConn); ok {
		_ = conn.SetLinger(0)
	}
	r.close()
}

// CloseAll resets every connection and returns how many there were.
func (s *Relays) CloseAll() int {
	s.lock.Lock()
	defer s.lock.Unlock()
	for r := range s.active {
		r.reset()
	}
	return len(s.active)
}

// Count returns the number of relayed TCP connections.
func (s *Relays) Count() int {
	s.lock.Lock()
	defer s.lock.Unlock()
	return len(s.active)
}

// Opened returns how many TCP connections limits.MaxConnections counts.
func (s *Relays) Opened() int64 { return s.opened.Load() }

// UDPFlows returns the number of UDP flows.
func (s *Relays) UDPFlows() int64 { return s.udpFlows.Load() }
