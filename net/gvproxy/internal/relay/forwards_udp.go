package relay

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"gateway.local/gvproxy/internal/limits"
)

// udpForward gives each client of a host port its own socket towards the guest.
type udpForward struct {
	relays  *Relays
	remote  netip.AddrPort
	host    *net.UDPConn
	lock    sync.Mutex
	clients map[netip.AddrPort]*udpEnd
}

func (t *Forwards) openUDP(f *openForward, remote netip.AddrPort) error {
	local, err := netip.ParseAddrPort(f.Local)
	if err != nil {
		return err
	}
	host, err := net.ListenUDP(familyOf("udp", f.Local), net.UDPAddrFromAddrPort(local))
	if err != nil {
		return err
	}
	f.Local = host.LocalAddr().String()
	u := &udpForward{relays: t.relays, remote: remote, host: host, clients: map[netip.AddrPort]*udpEnd{}}
	f.close = u.close
	go u.serve()
	return nil
}

func (u *udpForward) close() {
	_ = u.host.Close()
	u.lock.Lock()
	defer u.lock.Unlock()
	for _, guest := range u.clients {
		guest.close()
	}
}

func (u *udpForward) serve() {
	buffer := make([]byte, maxDatagramSize)
	for {
		size, client, err := u.host.ReadFromUDPAddrPort(buffer)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			slog.Debug("udp forward", "error", err)
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if guest := u.guestFor(client); guest != nil {
			guest.idle.Reset(udpIdleTimeout)
			_ = guest.write(buffer[:size])
		}
	}
}

// guestFor returns the client's socket towards the guest, nil when there are too many.
func (u *udpForward) guestFor(client netip.AddrPort) *udpEnd {
	u.lock.Lock()
	defer u.lock.Unlock()
	if guest, ok := u.clients[client]; ok {
		return guest
	}
	if !limits.Reserve(&u.relays.udpFlows, limits.MaxUDPFlows) {
		return nil
	}
	to := u.relays.guestAddress(u.remote)
	guest, err := dialGuestUDP(u.relays.stack, to)
	if err != nil {
		u.relays.udpFlows.Add(-1)
		return nil
	}
	u.clients[client] = guest
	go u.replies(client, guest)
	return guest
}

// replies sends what the guest answers until it is silent for udpIdleTimeout or fails.
func (u *udpForward) replies(client netip.AddrPort, guest *udpEnd) {
	defer u.relays.udpFlows.Add(-1)
	defer guest.close()
	defer func() {
		u.lock.Lock()
		delete(u.clients, client)
		u.lock.Unlock()
	}()
	guest.pump(func(datagram []byte) error {
		_, err := u.host.WriteToUDPAddrPort(datagram, client)
		return err
	})
}
