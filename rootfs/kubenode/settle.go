package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"gateway.local/kubenode/internal/heap"
	"gateway.local/kubenode/internal/layout"
)

const (
	settleSocket  = layout.RunDir + "/settle.sock"
	settleTimeout = time.Minute
)

// serveSettle lets `k3s settle` ask this server to get ready for being cloned.
func serveSettle() error {
	return serveSocket("settle", settleSocket, func(client net.Conn) {
		heap.Settle()
		fmt.Fprintln(client, "settled")
	})
}

// runSettle asks the running server.
func runSettle() int {
	text, err := askToSettle()
	if err != nil {
		fmt.Fprintf(os.Stderr, "k3s settle: cannot ask the server, is it running? %v\n", err)
		return 1
	}
	os.Stdout.Write(text)
	return 0
}

// askToSettle gives what the server says when it is done.
func askToSettle() ([]byte, error) {
	server, err := net.Dial("unix", settleSocket)
	if err != nil {
		return nil, err
	}
	defer server.Close()
	if err := server.SetDeadline(time.Now().Add(settleTimeout)); err != nil {
		return nil, err
	}
	text, err := io.ReadAll(server)
	if err == nil && len(text) == 0 {
		err = io.ErrUnexpectedEOF // it ended before it was done
	}
	return text, err
}
