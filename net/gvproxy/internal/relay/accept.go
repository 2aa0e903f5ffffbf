package relay

import (
	"errors"
	"log/slog"
	"net"
	"time"
)

// AcceptAll hands out a listener's connections, in order, until it is closed.
func AcceptAll(listener net.Listener, serve func(net.Conn)) {
	for {
		conn, err := listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, most likely: the listener stays, the pause keeps it cheap.
			slog.Warn("accept", "error", err)
			time.Sleep(100 * time.Millisecond)
			continue
		}
		serve(conn)
	}
}
