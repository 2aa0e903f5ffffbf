//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// A virtio port is a character device with habits of its own. While no host is connected, read
// returns 0 at once, write blocks, and poll reports POLLIN and POLLHUP for ever. So a port is always
// non-blocking here, and nobody polls it for more than the HUP bit while the host is away.

// reconnectInterval is how often an unconnected port is looked at.
const reconnectInterval = 50 * time.Millisecond

// port is an open virtio port, or a socket in tests.
type port struct {
	fd int
	// revents asks the kernel for the state of the descriptor without waiting; tests replace it.
	revents func(events int16) int16
}

// openPort opens the device of that path, or the virtio port of that name when path is empty.
func openPort(path, name string) (*port, error) {
	if path == "" {
		var err error
		if path, err = findPort("/sys/class/virtio-ports", name); err != nil {
			return nil, err
		}
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return newPort(fd), nil
}

func newPort(fd int) *port {
	p := &port{fd: fd}
	p.revents = func(events int16) int16 {
		fds := []unix.PollFd{{Fd: int32(fd), Events: events}}
		for {
			_, err := unix.Poll(fds, 0)
			if err == nil {
				return fds[0].Revents
			}
			if !errors.Is(err, unix.EINTR) {
				return unix.POLLHUP
			}
		}
	}
	return p
}

// findPort returns the device of the port that the host gave this name.
func findPort(class, name string) (string, error) {
	entries, err := os.ReadDir(class)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(class, entry.Name(), "name"))
		if err == nil && strings.TrimSpace(string(text)) == name {
			return filepath.Join("/dev", entry.Name()), nil
		}
	}
	return "", fmt.Errorf("no virtio port is named %q", name)
}

// awaitPort tries for a while: ports appear some time after the kernel has started.
func awaitPort(path, name string, timeout time.Duration) (*port, error) {
	deadline := time.Now().Add(timeout)
	for {
		p, err := openPort(path, name)
		if err == nil || time.Now().After(deadline) {
			return p, err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// connected tells whether the host has its side open.
func (p *port) connected() bool {
	return p.revents(0)&(unix.POLLHUP|unix.POLLNVAL) == 0
}

// waitFor blocks until the port can be read or written, or its host goes; it returns what poll said.
func (p *port) waitFor(events int16) int16 {
	fds := []unix.PollFd{{Fd: int32(p.fd), Events: events}}
	for {
		_, err := unix.Poll(fds, -1)
		if err == nil {
			return fds[0].Revents
		}
		if !errors.Is(err, unix.EINTR) {
			return unix.POLLHUP
		}
	}
}

// Read waits for the host and for data. It never returns 0 bytes without an error: a host that is
// not there is waited for.
func (p *port) Read(b []byte) (int, error) {
	for {
		if !p.connected() {
			// What the host sent before it went can still be there.
			if n, err := unix.Read(p.fd, b); n > 0 && err == nil {
				return n, nil
			}
			time.Sleep(reconnectInterval)
			continue
		}
		p.waitFor(unix.POLLIN)
		n, err := unix.Read(p.fd, b)
		switch {
		case n > 0:
			return n, nil
		case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		default:
			return 0, err
		}
	}
}

// Write waits for the host and writes everything.
func (p *port) Write(b []byte) (int, error) {
	done := 0
	for done < len(b) {
		if !p.connected() {
			time.Sleep(reconnectInterval)
			continue
		}
		p.waitFor(unix.POLLOUT)
		n, err := unix.Write(p.fd, b[done:])
		switch {
		case n > 0:
			done += n
		case err == nil, errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR), errors.Is(err, unix.EPIPE):
		default:
			return done, err
		}
	}
	return done, nil
}
