//go:build linux

package main

import (
	"net"
	"testing"
)

func TestLeavesMachine(t *testing.T) {
	for _, c := range []struct {
		local, remote string
		pod, leaves   bool
	}{
		{"192.168.127.2", "192.168.127.1", false, true},        // a forward of the host's
		{"192.168.127.2", "::ffff:192.168.127.1", false, true}, // the same on a dual-stack listener
		{"192.168.127.2", "203.0.113.9", false, true},          // somewhere outside
		{"127.0.0.1", "127.0.0.1", false, false},
		{"::1", "::1", false, false},
		{"192.168.127.2", "192.168.127.2", false, false}, // the node to itself
		{"192.168.127.2", "10.42.0.7", false, false},     // a pod
		{"10.42.0.7", "10.43.0.1", true, false},          // a pod to a service
		{"10.42.0.7", "10.42.0.8", true, false},
		{"10.42.0.7", "10.42.0.1", true, true}, // what came through a node port
		{"10.42.0.7", "203.0.113.9", true, true},
	} {
		if got := leavesMachine(net.ParseIP(c.local), net.ParseIP(c.remote), c.pod); got != c.leaves {
			t.Errorf("%s -> %s, in a pod %v: %v", c.local, c.remote, c.pod, got)
		}
	}
}
