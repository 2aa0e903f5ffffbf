package main

import (
	"fmt"
	"net"
	"os"
)

// listenPrivate listens on a unix socket that only this user may use. What an earlier server left there goes.
func listenPrivate(path string) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, err
	}
	listener, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		listener.Close()
		return nil, err
	}
	return listener, nil
}

// serveSocket answers one client of a unix socket after the other, and closes each.
func serveSocket(name, path string, answer func(client net.Conn)) error {
	listener, err := listenPrivate(path)
	if err != nil {
		return fmt.Errorf("cannot serve %s: %w", name, err)
	}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			answer(client)
			client.Close()
		}
	}()
	return nil
}
