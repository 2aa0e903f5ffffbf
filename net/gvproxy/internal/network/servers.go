package network

import (
	"errors"
	"log/slog"
	"net"
	"time"
)

// What the gateway's servers of DHCP and DNS share.

// logEnd runs a server, whose end nobody waits for.
func logEnd(what string, serve func() error) {
	slog.Error("service ended", "service", what, "error", serve())
}

// eachDatagram handles one datagram of the guest after the other until the connection is closed. Each is at most so long,
// and its bytes are overwritten by the next one.
func eachDatagram(packets net.PacketConn, length int, handle func(datagram []byte, from net.Addr)) error {
	buffer := make([]byte, length)
	for {
		size, from, err := packets.ReadFrom(buffer)
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		if err != nil {
			time.Sleep(10 * time.Millisecond)
			continue
		}
		handle(buffer[:size], from)
	}
}
