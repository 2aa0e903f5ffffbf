//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

const (
	// tokenKeySocket is where kubenode takes a new key for the tokens of service accounts.
	tokenKeySocket = "/run/k3s/token-key.sock"
	// tokenKeyLimit bounds the exchange: the agent answers nothing else meanwhile.
	tokenKeyLimit = 20 * time.Second
)

// sendTokenKey gives the cluster the key of this instance's own that lies in path, for a memory that went on from another
// instance and has its key. From its answer on, the cluster signs with the new one and publishes no other.
func sendTokenKey(path, socket string) error {
	key, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	connection, err := net.DialTimeout("unix", socket, tokenKeyLimit)
	if err != nil {
		return fmt.Errorf("the cluster's program takes no new token key: %w", err)
	}
	server := connection.(*net.UnixConn)
	defer server.Close()
	if err := server.SetDeadline(time.Now().Add(tokenKeyLimit)); err != nil {
		return err
	}
	if _, err := server.Write(key); err != nil {
		return err
	}
	if err := server.CloseWrite(); err != nil {
		return err
	}
	answer, err := io.ReadAll(io.LimitReader(server, 1<<10))
	if err != nil {
		return err
	}
	if text := strings.TrimSpace(string(answer)); text != "replaced" {
		return errors.New("the cluster refused the token key: " + text)
	}
	return nil
}
