package relay

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"gateway.local/gvproxy/internal/limits"
)

const guestDialTimeout = 10 * time.Second

// Forward is a port of the host that leads to one of the guest.
type Forward struct {
	// Protocol is "tcp" or "udp"; empty means tcp.
	Protocol string `json:"protocol"`
	// Local is host:port on the host; an empty host means 127.0.0.1, never all interfaces.
	Local string `json:"local"`
	// Remote is host:port in the virtual network; an empty host means the guest.
	Remote string `json:"remote"`
}

// Forwards holds the open forwards by protocol and local address.
type Forwards struct {
	relays *Relays
	lock   sync.Mutex
	open   map[string]*openForward
}

type openForward struct {
	Forward
	close func()
}

// NewForwards holds none yet.
func NewForwards(relays *Relays) *Forwards {
	return &Forwards{relays: relays, open: map[string]*openForward{}}
}

// normalize fills what was left out and refuses everything that is not two plain socket addresses.
func (t *Forwards) normalize(f Forward) (Forward, netip.AddrPort, error) {
	if f.Protocol == "" {
		f.Protocol = "tcp"
	}
	var none netip.AddrPort
	if f.Protocol != "tcp" && f.Protocol != "udp" {
		return f, none, failf(CodeUnsupported, "protocol %q is neither tcp nor udp", f.Protocol)
	}
	local, err := parseLocal(f.Local)
	if err != nil {
		return f, none, err
	}
	f.Local = local.String()
	if strings.HasPrefix(f.Remote, ":") {
		f.Remote = t.relays.config.GuestIP + f.Remote
	}
	remote, parseErr := netip.ParseAddrPort(f.Remote)
	if parseErr != nil || remote.Port() == 0 {
		return f, none, failf(CodeBadRequest, "remote %q is not an address and a port", f.Remote)
	}
	if !t.relays.config.Addresses.Subnet.Contains(remote.Addr()) {
		return f, none, failf(CodeBadRequest, "remote %q is not in %s", f.Remote, t.relays.config.Subnet)
	}
	f.Remote = remote.String()
	return f, remote, nil
}

func parseLocal(text string) (netip.AddrPort, error) {
	if strings.HasPrefix(text, ":") {
		text = "127.0.0.1" + text
	}
	local, err := netip.ParseAddrPort(text)
	if err != nil {
		return local, failf(CodeBadRequest, "local %q is not an address and a port", text)
	}
	return local, nil
}

func forwardKey(protocol, local string) string { return protocol + " " + local }

// Expose opens a forward and returns it as it is, with the port that was chosen if it asked for 0.
// The same forward again is no error.
func (t *Forwards) Expose(wanted Forward) (Forward, error) {
	f, remote, err := t.normalize(wanted)
	if err != nil {
		return f, err
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	if old, ok := t.open[forwardKey(f.Protocol, f.Local)]; ok {
		if old.Remote == f.Remote {
			return old.Forward, nil
		}
		return f, failf(CodePortInUse, "%s already leads to %s", f.Local, old.Remote)
	}
	opened := &openForward{Forward: f}
	if f.Protocol == "tcp" {
		err = t.openTCP(opened, remote)
	} else {
		err = t.openUDP(opened, remote)
	}
	if err != nil {
		return f, listenError(f.Local, err)
	}
	t.open[forwardKey(opened.Protocol, opened.Local)] = opened
	slog.Info("exposed", "protocol", opened.Protocol, "local", opened.Local, "remote", opened.Remote)
	return opened.Forward, nil
}

func listenError(local string, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return failf(CodePortInUse, "%s is in use by another process", local)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return failf(CodeNoAddress, "%s is not an address of this host", local)
	case errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return failf(CodeNoRight, "this user may not listen on %s", local)
	}
	return err
}

func (t *Forwards) openTCP(f *openForward, remote netip.AddrPort) error {
	listener, err := net.Listen(familyOf("tcp", f.Local), f.Local)
	if err != nil {
		return err
	}
	f.Local = listener.Addr().String()
	f.close = func() { _ = listener.Close() }
	go AcceptAll(listener, func(conn net.Conn) { go t.relays.relayForward(conn.(*net.TCPConn), remote) })
	return nil
}

// familyOf keeps an IPv4 wildcard from becoming one of IPv6 too.
func familyOf(protocol, local string) string {
	if address, err := netip.ParseAddrPort(local); err == nil && address.Addr().Is4() {
		return protocol + "4"
	}
	return protocol + "6"
}

func (s *Relays) guestAddress(remote netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: s.nic, Addr: tcpip.AddrFrom4(remote.Addr().As4()), Port: remote.Port()}
}

func (s *Relays) relayForward(client *net.TCPConn, remote netip.AddrPort) {
	if !limits.Reserve(&s.forwarded, limits.MaxForwarded) {
		slog.Warn("too many connections to the guest", "remote", remote)
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	defer s.forwarded.Add(-1)
	ctx, cancel := context.WithTimeout(context.Background(), guestDialTimeout)
	guest, err := gonet.DialContextTCP(ctx, s.stack, s.guestAddress(remote), ipv4.ProtocolNumber)
	cancel()
	if err != nil {
		slog.Debug("guest refused", "remote", remote, "error", err)
		// A reset, not an end: the client must not take it for an empty answer.
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	s.run(guest, client)
}

// Unexpose closes a forward; connections that were made through it go on.
func (t *Forwards) Unexpose(f Forward) error {
	if f.Protocol == "" {
		f.Protocol = "tcp"
	}
	local, err := parseLocal(f.Local)
	if err != nil {
		return err
	}
	t.lock.Lock()
	defer t.lock.Unlock()
	key := forwardKey(f.Protocol, local.String())
	old, ok := t.open[key]
	if !ok {
		return failf(CodeNotFound, "nothing is exposed on %s %s", f.Protocol, local)
	}
	delete(t.open, key)
	old.close()
	slog.Info("unexposed", "protocol", old.Protocol, "local", old.Local)
	return nil
}

// List returns the open forwards in the order of their local addresses.
func (t *Forwards) List() []Forward {
	t.lock.Lock()
	defer t.lock.Unlock()
	all := make([]Forward, 0, len(t.open))
	for _, f := range t.open {
		all = append(all, f.Forward)
	}
	sort.Slice(all, func(i, j int) bool {
		return forwardKey(all[i].Local, all[i].Protocol) < forwardKey(all[j].Local, all[j].Protocol)
	})
	return all
}

// CloseAll closes every forward.
func (t *Forwards) CloseAll() {
	t.lock.Lock()
	defer t.lock.Unlock()
	for key, f := range t.open {
		delete(t.open, key)
		f.close()
	}
}
