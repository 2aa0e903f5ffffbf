package network

import (
	"errors"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// stallTimeout is how long a frame waits for a guest that does not read. Then frames are dropped
	// until it reads again.
	stallTimeout = 10 * time.Second
	// stallGrace is how long a frame may wait before nothing is read from the guest either.
	stallGrace = 20 * time.Millisecond
)

// stall couples the two directions of a link. What a guest sends makes the stack work, and where the
// stack waits for a guest that does not read, that work would pile up without a limit.
type stall struct {
	// since is when the frame began to wait that waits now, in Unix nanoseconds; 0 is none.
	since atomic.Int64
	// dropping is set from a stallTimeout until the guest reads again. Only the writer uses it.
	dropping bool
}

// begin and end surround a write that may wait.
func (s *stall) begin() { s.since.Store(time.Now().UnixNano()) }
func (s *stall) end()   { s.since.Store(0) }

// giveWay returns when the reader may go on, at most stallTimeout later.
func (s *stall) giveWay() {
	for since := s.since.Load(); since != 0; since = s.since.Load() {
		if time.Since(time.Unix(0, since)) < stallGrace {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

// Write sends a frame, or drops it when the guest does not read. It never reports failure: it closes the
// connection instead, so that only the reading side, which then sees the end, takes the connection out
// of the switch.
func (g *streamGuest) Write(p []byte) (int, error) {
	if err := g.writeFrame(p); err != nil {
		_ = g.Conn.Close()
	}
	return len(p), nil
}

func (g *streamGuest) writeFrame(frame []byte) error {
	if g.stall.dropping {
		sent, err := writeNow(g.Conn, g.rest)
		g.rest = g.rest[sent:]
		if err != nil || len(g.rest) > 0 {
			g.dropped.Add(1)
			return err
		}
	}
	sent, err := writeNow(g.Conn, frame)
	if err == nil && sent < len(frame) && !g.stall.dropping {
		var more int
		more, err = g.writeWithin(frame[sent:])
		sent += more
	}
	if err != nil {
		return err
	}
	g.stall.dropping = sent < len(frame)
	if sent > 0 {
		// The guest gets the whole of a frame that it has the beginning of.
		g.rest = append(g.rest[:0], frame[sent:]...)
	} else if g.stall.dropping {
		g.dropped.Add(1)
	}
	return nil
}

// writeWithin waits until everything is written, at most stallTimeout.
func (g *streamGuest) writeWithin(p []byte) (int, error) {
	g.stall.begin()
	defer g.stall.end()
	_ = g.Conn.SetWriteDeadline(time.Now().Add(stallTimeout))
	defer g.Conn.SetWriteDeadline(time.Time{})
	sent, err := g.Conn.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = nil
	}
	return sent, err
}

// writeNow writes what there is room for.
func writeNow(conn net.Conn, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		return conn.Write(p)
	}
	raw, err := unix.SyscallConn()
	if err != nil {
		return 0, err
	}
	var sent int
	var failure error
	err = raw.Write(func(fd uintptr) bool {
		sent, failure = syscall.Write(int(fd), p)
		return true
	})
	if failure == syscall.EAGAIN || failure == syscall.EINTR || failure == syscall.ENOBUFS {
		failure = nil
	}
	return max(sent, 0), errors.Join(err, failure)
}
