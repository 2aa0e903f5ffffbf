package main

import (
	"io"
	"net"
	"sync"
	"sync/atomic"

	"gateway.local/gvproxy/internal/limits"
)

// halfCloser is a stream connection that can end its sending side alone.
type halfCloser interface {
	net.Conn
	CloseWrite() error
}

// relaySet knows the TCP connections that are being relayed, in both directions, so that they can be
// counted and closed together when the guest is gone.
type relaySet struct {
	lock      sync.Mutex
	active    map[*relay]struct{}
	opened    atomic.Int64 // by the guest
	forwarded atomic.Int64 // by clients of the host
	udpFlows  atomic.Int64
}

type relay struct {
	guest, host halfCloser
	// buffer is the size of the copying buffer of each direction.
	buffer int
}

func newRelaySet() *relaySet { return &relaySet{active: map[*relay]struct{}{}} }

// run copies between the two until both sides have ended, then closes them. It returns after that.
func (s *relaySet) run(guest, host halfCloser) { s.serve(s.newRelay(guest, host)) }

func (s *relaySet) newRelay(guest, host halfCloser) *relay {
	return &relay{guest, host, limits.CopyBuffer(s.count() + 1)}
}

func (s *relaySet) serve(r *relay) {
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

// closeAll resets every connection and returns how many there were.
func (s *relaySet) closeAll() int {
	s.lock.Lock()
	defer s.lock.Unlock()
	for r := range s.active {
		r.reset()
	}
	return len(s.active)
}

// count returns the number of relayed TCP connections.
func (s *relaySet) count() int {
	s.lock.Lock()
	defer s.lock.Unlock()
	return len(s.active)
}
