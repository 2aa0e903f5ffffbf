package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"gateway.local/gvproxy/internal/network"
)

// listenStream listens on a unix stream socket that only this user can open.
func listenStream(path string) (*net.UnixListener, error) {
	if err := clearStale("unix", path); err != nil {
		return nil, err
	}
	var listener *net.UnixListener
	err := withUmask(func() (err error) {
		listener, err = net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		return err
	})
	return listener, err
}

// listenDatagram binds a unix datagram socket that only this user can send to.
func listenDatagram(path string) (*net.UnixConn, error) {
	if err := clearStale("unixgram", path); err != nil {
		return nil, err
	}
	var conn *net.UnixConn
	err := withUmask(func() (err error) {
		conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
		return err
	})
	if err != nil {
		return nil, err
	}
	// The defaults of macOS hold a handful of frames; failure leaves a slower socket, not a broken one.
	_ = conn.SetReadBuffer(4 * network.SocketBuffer)
	_ = conn.SetWriteBuffer(network.SocketBuffer)
	return conn, nil
}

// withUmask makes a socket's mode 0600 from its first moment. It is called before any other
// goroutine that makes files exists.
func withUmask(bind func() error) error {
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	return bind()
}

// clearStale removes the socket that a killed process left behind, never a socket in use and never
// anything that is not a socket.
func clearStale(network, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	conn, err := net.DialTimeout(network, path, time.Second)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("%s is in use by another process", path)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return err
	}
	return os.Remove(path)
}
