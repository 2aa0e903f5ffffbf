package egress

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/names"
)

// policyOf is that of a configuration, by this host's names.
func policyOf(t *testing.T, some config.Config) *Policy {
	t.Helper()
	some.ListenQemu, some.API = "q", "a"
	if err := some.Complete(); err != nil {
		t.Fatal(err)
	}
	return New(&some, names.OfHost())
}

func TestEgressByAddressAndMode(t *testing.T) {
	own := netip.MustParsePrefix("93.184.216.34/24")
	for _, c := range []struct {
		what      string
		addresses []string
		internet  reason
		all       reason
		none      reason
	}{
		{"public", []string{
			"1.1.1.1", "93.184.216.35", "168.63.129.15", "168.63.129.17", "172.32.0.1", "100.63.255.255", "100.128.0.0",
			"192.0.1.1", "198.17.255.255", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1",
		}, reachable, reachable, reasonNone},
		{"private", []string{
			"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.126.1", "192.168.128.1", "::ffff:10.0.0.1",
			"64:ff9b::a00:1", "2002:c0a8:8001::1", "fd00::1", "fc00::1", "::10.0.0.1",
		}, reasonPrivate, reachable, reasonNone},
		{"shared", []string{"100.64.0.1", "100.127.255.255", "100.100.100.199"}, reasonPrivate, reachable, reasonNone},
		{"protocols, tests and documentation", []string{
			"192.0.0.191", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1",
			"2001:db8::1", "3fff::1", "2001::1", "100::1", "5f00::1",
		}, reasonPrivate, reachable, reasonNone},
		{"this host's own", []string{"93.184.216.34", "::ffff:93.184.216.34"}, reasonHost, reachable, reasonNone},
		{"loopback", []string{
			"127.0.0.1", "127.1.2.3", "0.0.0.0", "0.1.2.3", "::1", "::", "::ffff:127.0.0.1", "::127.0.0.1",
			"64:ff9b::7f00:1", "2002:7f00:1::1",
		}, reasonNever, reasonNever, reasonNever},
		{"link-local", []string{
			"169.254.0.1", "169.254.255.255", "fe80::1", "fe80::1%eth0", "fec0::1",
		}, reasonNever, reasonNever, reasonNever},
		{"metadata", []string{
			"169.254.169.254", "168.63.129.16", "100.100.100.200", "100.100.100.100", "192.0.0.192", "fd00:ec2::254",
			"fd20:ce::254", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a83f:8110", "2002:a9fe:a9fe::",
		}, reasonNever, reasonNever, reasonNever},
		{"multicast and reserved", []string{
			"224.0.0.1", "239.255.255.250", "240.0.0.1", "ff02::1",
		}, reasonNever, reasonNever, reasonNever},
		{"the virtual network", []string{
			"192.168.127.1", "192.168.127.3", "192.168.127.255", "::ffff:192.168.127.1", "255.255.255.255",
		}, reasonVirtual, reasonVirtual, reasonVirtual},
	} {
		for mode, want := range map[string]reason{"": c.internet, config.EgressAll: c.all, config.EgressNone: c.none} {
			p := policyOf(t, config.Config{Egress: mode})
			p.host.read = func() ([]net.Addr, error) {
				return []net.Addr{&net.IPNet{IP: own.Addr().AsSlice(), Mask: net.CIDRMask(24, 32)}}, nil
			}
			for _, address := range c.addresses {
				for _, what := range []kind{kindTCP, kindUDP, kindICMP} {
					if got := p.judge(what, netip.MustParseAddr(address), 80); got != want {
						t.Errorf("%s: %s to %s in mode %q: %q, not %q", c.what, what, address, mode, got, want)
					}
				}
			}
		}
	}
}

func TestEgressIsClosedWhileTheHostsAddressesAreUnknown(t *testing.T) {
	p := policyOf(t, config.Config{})
	p.host.read = func() ([]net.Addr, error) { return nil, errors.New("no") }
	if got := p.judge(kindTCP, netip.MustParseAddr("1.1.1.1"), 80); got != reasonHost {
		t.Errorf("%q", got)
	}
}

func TestEgressIsOpenToWhatTheUserAllowed(t *testing.T) {
	for _, mode := range []string{config.EgressInternet, config.EgressNone} {
		p := policyOf(t, config.Config{
			Egress:     mode,
			AllowNets:  []config.AllowedNet{{Net: "10.1.0.0/16"}, {Net: "10.2.0.1/32", Port: 443}, {Net: "0.0.0.0/1", Port: 7}},
			AllowHosts: []config.AllowedHost{{Host: "10.3.0.1", Port: 5000}},
		})
		for _, c := range []struct {
			what   kind
			to     string
			opened bool
		}{
			{kindTCP, "10.1.2.3:1", true}, {kindUDP, "10.1.2.3:1", true}, {kindICMP, "10.1.2.3:0", true},
			{kindTCP, "10.0.255.255:1", false}, {kindTCP, "10.2.0.1:443", true}, {kindUDP, "10.2.0.1:443", true},
			{kindTCP, "10.2.0.1:80", false}, {kindICMP, "10.2.0.1:443", false}, {kindTCP, "10.2.0.2:443", false},
			{kindTCP, "10.3.0.1:5000", true}, {kindUDP, "10.3.0.1:5000", false}, {kindTCP, "10.3.0.1:80", false},
			{kindTCP, "127.0.0.1:7", false}, {kindTCP, "100.100.100.200:7", false}, {kindTCP, "10.9.9.9:7", true},
		} {
			to := netip.MustParseAddrPort(c.to)
			if got := p.judge(c.what, to.Addr(), to.Port()); (got == reachable) != c.opened {
				t.Errorf("mode %s, %s to %s: %q", mode, c.what, c.to, got)
			}
		}
	}
}
