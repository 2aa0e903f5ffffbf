package network

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"syscall"
	"time"
)

// The switch of the library trusts what stands behind its net.Conn: a frame shorter than an Ethernet
// header makes it panic with a lock held, a failed write makes it forget the connection while frames
// of it are still being read, and a full datagram buffer makes it spin. The two types here stand in
// between, so that nothing a guest or a dying VMM does can reach those paths. The switch also remembers
// every source address for ever, hence only frames from the guest's own address pass.

const (
	minFrame = 14
	maxFrame = 65535 + minFrame + 4
)

// streamGuest is the connection of a VMM that sends each frame after its length (4 bytes, big endian).
type streamGuest struct {
	net.Conn
	reader  *bufio.Reader
	header  [4]byte
	pending int // bytes of header not yet handed out
	body    int // bytes of the frame not yet handed out
	mac     net.HardwareAddr
	dropped *atomic.Uint64
	stall   stall
	rest    []byte // the end of a frame that the guest has the beginning of
}

func newStreamGuest(conn net.Conn, mac net.HardwareAddr, dropped *atomic.Uint64) *streamGuest {
	return &streamGuest{Conn: conn, reader: bufio.NewReaderSize(conn, 128*1024), mac: mac, dropped: dropped}
}

// isFrom tells whether a frame, or its first minFrame bytes, has the source address.
func isFrom(mac net.HardwareAddr, frame []byte) bool {
	return len(frame) >= minFrame && bytes.Equal(frame[6:12], mac)
}

// Read returns the stream as it came, without the frames that are not Ethernet frames of the guest.
func (g *streamGuest) Read(p []byte) (int, error) {
	if g.pending == 0 && g.body == 0 {
		if err := g.nextFrame(); err != nil {
			return 0, err
		}
	}
	n := 0
	if g.pending > 0 {
		n = copy(p, g.header[len(g.header)-g.pending:])
		g.pending -= n
	}
	if n == len(p) || (n > 0 && g.reader.Buffered() == 0) {
		return n, nil
	}
	m, err := g.reader.Read(p[n:min(len(p), n+g.body)])
	g.body -= m
	return n + m, err
}

func (g *streamGuest) nextFrame() error {
	for {
		g.stall.giveWay()
		if _, err := readFull(g.reader, g.header[:]); err != nil {
			return err
		}
		size := int(binary.BigEndian.Uint32(g.header[:]))
		if size > maxFrame {
			return fmt.Errorf("the VMM announced a frame of %d bytes", size)
		}
		if size >= minFrame {
			head, err := g.reader.Peek(minFrame)
			if err != nil {
				return err
			}
			if isFrom(g.mac, head) {
				g.pending, g.body = len(g.header), size
				return nil
			}
		}
		g.dropped.Add(1)
		if _, err := g.reader.Discard(size); err != nil {
			return err
		}
	}
}

func readFull(r *bufio.Reader, p []byte) (int, error) {
	n := 0
	for n < len(p) {
		m, err := r.Read(p[n:])
		n += m
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// datagramGuest is the peer of a datagram socket: whoever sent the last frame. A VMM that was
// restarted binds a new address, and the first frame it sends makes it the peer.
type datagramGuest struct {
	*net.UnixConn
	peer     atomic.Pointer[net.UnixAddr]
	joined   func(peer string)
	mac      net.HardwareAddr
	dropped  *atomic.Uint64
	stall    stall
	fallback net.Addr
}

func newDatagramGuest(conn *net.UnixConn, mac net.HardwareAddr, dropped *atomic.Uint64, joined func(string)) *datagramGuest {
	return &datagramGuest{UnixConn: conn, mac: mac, dropped: dropped, joined: joined, fallback: conn.LocalAddr()}
}

// Read returns the next datagram that is an Ethernet frame of the guest.
func (g *datagramGuest) Read(p []byte) (int, error) {
	for {
		g.stall.giveWay()
		n, from, err := g.ReadFromUnix(p)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				return 0, err
			}
			// Queued errors of an earlier write are no reason to give up the socket.
			time.Sleep(10 * time.Millisecond)
			continue
		}
		if from != nil && from.Name != "" {
			if old := g.peer.Load(); old == nil || old.Name != from.Name {
				g.peer.Store(from)
				g.joined(from.Name)
			}
		}
		if isFrom(g.mac, p[:n]) {
			return n, nil
		}
		g.dropped.Add(1)
	}
}

// Write sends one frame to the peer, or drops it: this is a network, and TCP knows what to do.
func (g *datagramGuest) Write(p []byte) (int, error) {
	peer := g.peer.Load()
	if peer == nil {
		return len(p), nil
	}
	g.stall.begin()
	defer g.stall.end()
	patience := stallTimeout
	if g.stall.dropping {
		patience = time.Millisecond
	}
	_ = g.SetWriteDeadline(time.Now().Add(patience))
	for attempt := 0; ; attempt++ {
		_, err := g.WriteToUnix(p, peer)
		if err == nil {
			g.stall.dropping = false
			return len(p), nil
		}
		g.stall.dropping = g.stall.dropping || errors.Is(err, os.ErrDeadlineExceeded)
		if attempt == 20 || !(errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.EAGAIN)) {
			g.dropped.Add(1)
			return len(p), nil
		}
		time.Sleep(time.Millisecond)
	}
}

// RemoteAddr is never nil, since the switch prints it.
func (g *datagramGuest) RemoteAddr() net.Addr {
	if peer := g.peer.Load(); peer != nil {
		return peer
	}
	return g.fallback
}
