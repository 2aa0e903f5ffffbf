package relay

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sort"
	"strconv"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/limits"
)

const serviceDialTimeout = 10 * time.Second

// Services holds the open host services by guest port.
type Services struct {
	relays      *Relays
	lock        sync.Mutex
	open        map[uint16]*openService
	connections int
}

type openService struct {
	config.HostService
	// active are its relayed connections; they end when the service is removed.
	active map[*relay]struct{}
}

// Add opens a service. The same service again is no error.
func (t *Services) Add(service config.HostService) error {
	if service.GuestPort == 0 || service.HostPort == 0 {
		return failf(CodeBadRequest, "a host service needs two ports from 1 to 65535")
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	if old, ok := t.open[service.GuestPort]; ok {
		if old.HostPort == service.HostPort {
			return nil
		}
		return failf(CodePortInUse, "the guest's port %d already leads to port %d of the host",
			service.GuestPort, old.HostPort)
	}
	t.open[service.GuestPort] = &openService{service, map[*relay]struct{}{}}
	slog.Info("host service added", "guestPort", service.GuestPort, "hostPort", service.HostPort)
	return nil
}

// Remove closes a service and the connections to it: what is no longer allowed ends.
func (t *Services) Remove(guestPort uint16) error {
	t.lock.Lock()
	defer t.lock.Unlock()
	service, ok := t.open[guestPort]
	if !ok {
		return failf(CodeNotFound, "no host service is open on port %d", guestPort)
	}
	delete(t.open, guestPort)
	for r := range service.active {
		r.reset()
	}
	slog.Info("host service removed", "guestPort", guestPort, "connectionsClosed", len(service.active))
	return nil
}

// List returns the open services in the order of their guest ports.
func (t *Services) List() []config.HostService {
	t.lock.Lock()
	defer t.lock.Unlock()
	all := make([]config.HostService, 0, len(t.open))
	for _, service := range t.open {
		all = append(all, service.HostService)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].GuestPort < all[j].GuestPort })
	return all
}

// Any tells whether a service is open.
func (t *Services) Any() bool {
	t.lock.Lock()
	defer t.lock.Unlock()
	return len(t.open) > 0
}

// Count returns the number of connections that are open or being opened.
func (t *Services) Count() int {
	t.lock.Lock()
	defer t.lock.Unlock()
	return t.connections
}

// reserve counts a new connection to a service; nil when it is not open or the guest has too many.
func (t *Services) reserve(guestPort uint16) *openService {
	t.lock.Lock()
	defer t.lock.Unlock()
	service := t.open[guestPort]
	if service == nil || t.connections >= limits.MaxServiceConnections {
		return nil
	}
	t.connections++
	return service
}

func (t *Services) release() {
	t.lock.Lock()
	defer t.lock.Unlock()
	t.connections--
}

// run relays a connection to a service unless the service was removed meanwhile.
func (t *Services) run(service *openService, r *relay) {
	t.lock.Lock()
	removed := t.open[service.GuestPort] != service
	if !removed {
		service.active[r] = struct{}{}
	}
	t.lock.Unlock()
	if removed {
		r.reset()
		return
	}
	defer func() {
		t.lock.Lock()
		delete(service.active, r)
		t.lock.Unlock()
	}()
	t.relays.serve(r)
}

// relayService connects to the host first and answers the guest's SYN after, so that the guest sees at
// once that a service is down, and finds it again when it is back.
func (s *Relays) relayService(request *tcp.ForwarderRequest) {
	service := s.Services.reserve(request.ID().LocalPort)
	if service == nil {
		request.Complete(true)
		return
	}
	defer s.Services.release()
	if !limits.Reserve(&s.opened, limits.MaxConnections) {
		request.Complete(true)
		return
	}
	defer s.opened.Add(-1)
	outbound, err := dialLoopback(service.HostPort)
	if err != nil {
		slog.Debug("host service refused", "hostPort", service.HostPort, "error", err)
		request.Complete(true)
		return
	}
	if guest := s.acceptFor(request, outbound); guest != nil {
		s.Services.run(service, s.newRelay(guest, outbound))
		guest.settle()
	}
}

// dialLoopback connects to a port of 127.0.0.1, or of ::1 when nobody listens on the first.
func dialLoopback(port uint16) (*net.TCPConn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), serviceDialTimeout)
	defer cancel()
	number := strconv.Itoa(int(port))
	conn, err := dialTCP(ctx, "tcp4", net.JoinHostPort("127.0.0.1", number))
	if errors.Is(err, syscall.ECONNREFUSED) {
		return dialTCP(ctx, "tcp6", net.JoinHostPort("::1", number))
	}
	return conn, err
}
