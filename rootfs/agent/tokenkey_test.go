//go:build linux

package main

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// tokenKeyServer takes one key and gives an answer.
func tokenKeyServer(t *testing.T, answer string) (socket string, taken <-chan string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	keys := make(chan string, 1)
	go func() {
		client, err := listener.Accept()
		if err != nil {
			return
		}
		defer client.Close()
		text, _ := io.ReadAll(client)
		keys <- string(text)
		_, _ = io.WriteString(client, answer)
	}()
	return socket, keys
}

func TestSendTokenKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token.key")
	if err := os.WriteFile(path, []byte("KEY"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket, taken := tokenKeyServer(t, "replaced\n")
	if err := sendTokenKey(path, socket); err != nil {
		t.Error(err)
	}
	if got := <-taken; got != "KEY" {
		t.Errorf("sent %q", got)
	}
	socket, _ = tokenKeyServer(t, "it is not an RSA key\n")
	if err := sendTokenKey(path, socket); err == nil || !strings.Contains(err.Error(), "not an RSA key") {
		t.Errorf("a refusal gives %v", err)
	}
	socket, _ = tokenKeyServer(t, "")
	if err := sendTokenKey(path, socket); err == nil {
		t.Error("no answer counts as success")
	}
	if err := sendTokenKey(path, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a cluster without the socket counts as success")
	}
	if err := sendTokenKey(filepath.Join(t.TempDir(), "none"), socket); err == nil {
		t.Error("no key counts as success")
	}
}
