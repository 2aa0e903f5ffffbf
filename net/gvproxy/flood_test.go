package main

import (
	"encoding/binary"
	"net"
	"path/filepath"
	"testing"
	"time"
)

// eventually waits until a condition holds, within a bound that only a fault reaches.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("Timed out after 60 s waiting for %s", what)
		}
	}
}

// frameFrom is an Ethernet frame to everybody, from a source address that has the number in it.
func frameFrom(number uint32) []byte {
	frame := make([]byte, 60)
	copy(frame, []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0})
	binary.BigEndian.PutUint32(frame[8:], number)
	return frame
}

func TestFramesOfOtherSourcesAreDropped(t *testing.T) {
	const frames = 20_000
	n := networkOf(t, newHostResolver())
	stream := guestOf(t, n)
	socket := filepath.Join(t.TempDir(), "v")
	listening, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listening.Close() })
	go n.serveDatagram(listening)
	datagrams := dialVfkit(t, socket)
	for name, g := range map[string]*guest{"stream": stream, "datagrams": datagrams} {
		before := n.dropped.Load()
		for i := range frames {
			g.send(frameFrom(uint32(i)))
		}
		eventually(t, "the frames to be dropped", func() bool { return n.dropped.Load() >= before+frames })
		if known := len(n.fabric.CAM()); known > 2 {
			t.Errorf("%s: the switch remembers %d addresses", name, known)
		}
		if conn, err := g.dial("192.168.127.1:53", 10*time.Second); err != nil {
			t.Errorf("%s: the guest has lost its gateway: %v", name, err)
		} else {
			conn.Close()
		}
	}
}
