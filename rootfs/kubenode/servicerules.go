package main

import (
	"bytes"
	"net"
	"strings"

	"github.com/google/nftables"
)

const (
	// proxyTable and proxyServices are kube-proxy's, in its nftables mode: the services that it forwards, by address,
	// protocol and port.
	proxyTable    = "kube-proxy"
	proxyServices = "service-ips"
)

// forwards says whether kube-proxy's rules name this address. Asking the kernel costs no connection: one that no rule
// turns aside leaves this machine for a network that has no such address.
func forwards(address net.IP) bool {
	kernel, err := nftables.New()
	if err != nil {
		return false
	}
	table := &nftables.Table{Name: proxyTable, Family: nftables.TableFamilyIPv4}
	services, err := kernel.GetSetByName(table, proxyServices)
	if err != nil {
		return false
	}
	elements, err := kernel.GetSetElements(services)
	if err != nil {
		return false
	}
	for _, element := range elements {
		if bytes.HasPrefix(element.Key, address.To4()) {
			return true
		}
	}
	return false
}

// showsRules says whether forwards can know: of other modes of kube-proxy, and of IPv6, it knows nothing.
func showsRules(proxyArgs []string, address net.IP) bool {
	for _, arg := range proxyArgs {
		if mode, ok := strings.CutPrefix(strings.TrimLeft(arg, "-"), "proxy-mode="); ok && mode != "nftables" {
			return false
		}
	}
	return address.To4() != nil
}
