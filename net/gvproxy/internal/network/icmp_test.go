package network

import (
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gateway.local/gvproxy/internal/names"
)

func TestARefusedDatagramIsAnsweredAtOnce(t *testing.T) {
	g := guestOf(t, networkOf(t, names.OfHost()))
	for _, target := range []string{"168.63.129.16:53", "100.100.100.200:80", serviceAddress + ":5"} {
		if kind, code, ok := g.Datagram(target); !ok || kind != header.ICMPv4DstUnreachable || code != header.ICMPv4PortUnreachable {
			t.Errorf("%s: type %d, code %d, answered %v", target, kind, code, ok)
		}
	}
}

const prohibited = header.ICMPv4AdminProhibited

func TestAPingIsAnsweredOnlyForWhatCanBeReached(t *testing.T) {
	g := guestOf(t, networkOf(t, names.OfHost()))
	for _, c := range []struct {
		to   string
		kind header.ICMPv4Type
		code header.ICMPv4Code
	}{
		{"192.168.127.1", header.ICMPv4EchoReply, 0},
		{serviceAddress, header.ICMPv4EchoReply, 0},
		{"1.1.1.1", header.ICMPv4EchoReply, 0},
		{"169.254.169.254", header.ICMPv4DstUnreachable, prohibited},
		{"168.63.129.16", header.ICMPv4DstUnreachable, prohibited},
		{"240.0.0.1", header.ICMPv4DstUnreachable, prohibited},
	} {
		if kind, code, ok := g.Ping(c.to); !ok || kind != c.kind || code != c.code {
			t.Errorf("%s: type %d, code %d, answered %v", c.to, kind, code, ok)
		}
	}
}
