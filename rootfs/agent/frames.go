//go:build linux

package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync"
)

// The frames of gw.stdio: one byte of type, four bytes of length (big endian), the body.
const (
	frameStdin  = 0 // host to guest; length 0 is the end of input
	frameStdout = 1
	frameStderr = 2
	frameExit   = 3 // guest to host: 4 bytes of exit code; host to guest, length 0: "I have it all"
	frameSignal = 4 // host to guest: one byte, the signal's number
	frameWindow = 5 // host to guest; ignored
	frameReady  = 6 // guest to host: the port is open; host to guest, length 0: "I shall confirm exit"
)

const (
	frameHeader = 5
	maxBody     = 1 << 20
	chunkSize   = 32 * 1024
)

type frame struct {
	kind byte
	body []byte
}

// readFrame reads one frame; a longer body than maxBody means that the stream is not ours.
func readFrame(from io.Reader) (frame, error) {
	var header [frameHeader]byte
	if _, err := io.ReadFull(from, header[:]); err != nil {
		return frame{}, err
	}
	size := binary.BigEndian.Uint32(header[1:])
	if size > maxBody {
		return frame{}, fmt.Errorf("frame of %d bytes", size)
	}
	body := make([]byte, size)
	_, err := io.ReadFull(from, body)
	return frame{header[0], body}, err
}

// frameWriter lets several goroutines write whole frames.
type frameWriter struct {
	lock sync.Mutex
	to   io.Writer
}

// write sends one frame. Header and body go in one call, so that a small frame is one buffer of the
// port's queue.
func (w *frameWriter) write(kind byte, body []byte) error {
	buffer := make([]byte, frameHeader, frameHeader+len(body))
	buffer[0] = kind
	binary.BigEndian.PutUint32(buffer[1:], uint32(len(body)))
	buffer = append(buffer, body...)
	w.lock.Lock()
	defer w.lock.Unlock()
	_, err := w.to.Write(buffer)
	return err
}

// exit sends the exit code.
func (w *frameWriter) exit(code int) error {
	return w.write(frameExit, binary.BigEndian.AppendUint32(nil, uint32(code)))
}
