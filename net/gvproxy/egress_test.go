package main

import (
	"bufio"
	"strings"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"gateway.local/gvproxy/internal/guesttest"
)

func TestARefusedConnectionIsResetCountedAndTold(t *testing.T) {
	outside := guesttest.HostAddress()
	if outside == "" {
		t.Skip("this host has no address but the loopback's")
	}
	port := guesttest.HostServer(t, "0.0.0.0:0")
	p := startProxy(t)
	g := guesttest.Qemu(t, p.config.ListenQemu)
	for range 2 {
		if _, err := g.Hears(outside + ":" + port); !guesttest.Refused(err) {
			t.Errorf("a connection to this host: %v", err)
		}
	}
	g.Datagram("10.9.9.9:53")
	if kind, code, ok := g.Ping("10.9.9.9"); !ok || kind != header.ICMPv4DstUnreachable || code != header.ICMPv4AdminProhibited {
		t.Errorf("ping: type %d, code %d, answered %v", kind, code, ok)
	}
	_, stats := p.call("GET", "/stats", nil)
	for field, want := range map[string]float64{"refusedTcp": 2, "refusedUdp": 1, "refusedIcmp": 1, "refusedDns": 0} {
		if stats[field] != want {
			t.Errorf("%s is %v", field, stats[field])
		}
	}
	response, err := p.client.Get("http://gvproxy/refusals")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	lines := bufio.NewScanner(response.Body)
	for _, want := range []string{
		`{"kind":"tcp","target":"` + outside + ":" + port + `","reason":"`,
		`{"kind":"udp","target":"10.9.9.9:53","reason":"private"}`,
		`{"kind":"icmp","target":"10.9.9.9","reason":"private"}`,
	} {
		if !lines.Scan() || !strings.HasPrefix(lines.Text(), want) {
			t.Errorf("%q, not %q", lines.Text(), want)
		}
	}
}
