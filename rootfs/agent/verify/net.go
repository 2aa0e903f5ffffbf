//go:build linux

package verify

import (
	"errors"
	"fmt"
	"net"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func linkChecks() map[string]check {
	return map[string]check{
		"veth.packet":     vethPacket,
		"links.dummy":     addsLink(&netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: "d0"}}),
		"links.vxlan":     addsLink(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "x0"}, VxlanId: 1, Port: 8472}),
		"links.bandwidth": limitsBandwidth,
	}
}

func vethPacket(Host) (string, error) {
	return withSpaces(2, func(s []*space) (string, error) {
		if err := s[0].cable("a", "10.77.0.1/24", s[1], "b", "10.77.0.2/24"); err != nil {
			return "", err
		}
		seen, err := s[0].exchange(s[1], "10.77.0.2:9000", "10.77.0.2:9000")
		return "a datagram and its answer went through, from " + seen, err
	})
}

func addsLink(link netlink.Link) check {
	return func(Host) (string, error) {
		return withSpaces(1, func(s []*space) (string, error) {
			if err := s[0].link.LinkAdd(link); err != nil {
				return "", fmt.Errorf("a %s device: %w", link.Type(), err)
			}
			return "a " + link.Type() + " device was made", s[0].up(link.Attrs().Name, "")
		})
	}
}

func limitsBandwidth(Host) (string, error) {
	return withSpaces(2, func(s []*space) (string, error) {
		if err := s[0].cable("a", "", s[1], "b", ""); err != nil {
			return "", err
		}
		device, err := s[0].link.LinkByName("a")
		if err != nil {
			return "", err
		}
		return "a rate limit was put on a device", s[0].link.QdiscAdd(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{
				LinkIndex: device.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT,
			},
			Rate: 1_000_000, Limit: 100_000, Buffer: 100_000,
		})
	})
}

func bridgeChecks() map[string]check {
	return map[string]check{
		"bridge.packet":  bridgePacket,
		"bridge.service": bridgeService,
		"bridge.hairpin": bridgeHairpin,
		"bridge.vlan":    bridgeVlan,
	}
}

const (
	podA    = "10.78.0.2"
	podB    = "10.78.0.3"
	hub     = "10.78.0.1"
	service = "10.96.0.10"
)

// bridged makes a node (the first namespace) with a bridge and two pods on it.
func bridged(work func(node, a, b *space) (string, error)) (string, error) {
	return withSpaces(3, func(s []*space) (string, error) {
		node, pods := s[0], s[1:]
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
		if err := node.link.LinkAdd(bridge); err != nil {
			return "", fmt.Errorf("a bridge: %w", err)
		}
		if err := node.up("br0", hub+"/24"); err != nil {
			return "", err
		}
		for i, address := range []string{podA, podB} {
			port := fmt.Sprintf("port%d", i)
			if err := node.cable(port, "", pods[i], "eth0", address+"/24"); err != nil {
				return "", err
			}
			device, err := node.link.LinkByName(port)
			if err != nil {
				return "", err
			}
			if err := node.link.LinkSetMaster(device, bridge); err != nil {
				return "", fmt.Errorf("a port of the bridge: %w", err)
			}
			if err := pods[i].defaultRoute(hub); err != nil {
				return "", err
			}
		}
		return work(node, pods[0], pods[1])
	})
}

func bridgePacket(Host) (string, error) {
	return bridged(func(_, a, b *space) (string, error) {
		seen, err := a.exchange(b, podB+":9000", podB+":9000")
		return "a datagram and its answer crossed the bridge, from " + seen, err
	})
}

// filterBridged turns on what br_netfilter is for; without the module there is no such file.
func filterBridged(node *space) error {
	if err := node.sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	if err := node.sysctl("net/bridge/bridge-nf-call-iptables", "1"); err != nil {
		return fmt.Errorf("bridged packets are not filtered: %w", err)
	}
	return nil
}

// bridgeService: the answer of a pod on the same bridge would go past the node and keep the pod's
// own address, which the asker does not know; only a filtered bridge puts the Service's back.
func bridgeService(Host) (string, error) {
	return bridged(func(node, a, b *space) (string, error) {
		if err := filterBridged(node); err != nil {
			return "", err
		}
		if err := node.nft(dnatTo(podB)); err != nil {
			return "", err
		}
		seen, err := a.exchange(b, podB+":9000", service+":80")
		return "a Service of a pod on the same bridge answered, asked by " + seen, err
	})
}

func bridgeHairpin(Host) (string, error) {
	return bridged(func(node, a, _ *space) (string, error) {
		if err := filterBridged(node); err != nil {
			return "", err
		}
		port, err := node.link.LinkByName("port0")
		if err != nil {
			return "", err
		}
		if err := node.link.LinkSetHairpin(port, true); err != nil {
			return "", fmt.Errorf("hairpin mode: %w", err)
		}
		rules := dnatTo(podA) + "table ip m { chain c { type nat hook postrouting priority srcnat; " +
			"ip saddr " + podA + " ip daddr " + podA + " masquerade; }; }\n"
		if err := node.nft(rules); err != nil {
			return "", err
		}
		seen, err := a.exchange(a, podA+":9000", service+":80")
		if err == nil && seen != hub {
			return "", fmt.Errorf("the pod saw itself as %s instead of %s", seen, hub)
		}
		return "a pod reached itself through its Service", err
	})
}

func bridgeVlan(Host) (string, error) {
	return withSpaces(1, func(s []*space) (string, error) {
		on := true
		bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}, VlanFiltering: &on}
		if err := s[0].link.LinkAdd(bridge); err != nil {
			return "", err
		}
		return "a bridge that filters by VLAN took a tag", s[0].link.BridgeVlanAdd(bridge, 100, false, false, true, false)
	})
}

func natChecks() map[string]check {
	return map[string]check{
		"nat.dnat":         natDnat,
		"nat.masquerade":   natMasquerade,
		"nat.reject":       natReject,
		"conntrack.track":  conntrackTrack,
		"conntrack.delete": conntrackDelete,
	}
}

const server = "10.77.2.2"

func dnatTo(address string) string {
	return "table ip n { chain c { type nat hook prerouting priority dstnat; ip daddr " + service +
		" udp dport 80 dnat to " + address + ":9000; }; }\n"
}

// routed makes a client, a node that forwards, and a server on the other side of it. The client
// knows only the node; the server knows nobody but the node.
func routed(work func(client, node, far *space) (string, error)) (string, error) {
	return withSpaces(3, func(s []*space) (string, error) {
		client, node, far := s[0], s[1], s[2]
		for _, err := range []error{
			node.cable("east", "10.77.1.1/24", client, "eth0", "10.77.1.2/24"),
			node.cable("west", "10.77.2.1/24", far, "eth0", server+"/24"),
			client.defaultRoute("10.77.1.1"),
			node.defaultRoute(server),
			node.sysctl("net/ipv4/ip_forward", "1"),
		} {
			if err != nil {
				return "", err
			}
		}
		return work(client, node, far)
	})
}

func askService(client, node, far *space) (string, error) {
	if err := far.defaultRoute("10.77.2.1"); err != nil {
		return "", err
	}
	if err := node.nft(dnatTo(server)); err != nil {
		return "", err
	}
	return client.exchange(far, server+":9000", service+":80")
}

func natDnat(Host) (string, error) {
	return routed(func(client, node, far *space) (string, error) {
		seen, err := askService(client, node, far)
		return "a Service address led to its endpoint, asked by " + seen, err
	})
}

func natMasquerade(Host) (string, error) {
	return routed(func(client, node, far *space) (string, error) {
		rules := `table ip m { chain c { type nat hook postrouting priority srcnat; oifname "west" masquerade; }; }`
		if err := node.nft(rules); err != nil {
			return "", err
		}
		seen, err := client.exchange(far, server+":9000", server+":9000")
		if err == nil && seen != "10.77.2.1" {
			return "", fmt.Errorf("the server saw %s instead of the node's address", seen)
		}
		return "the server saw the node's address and its answer came back", err
	})
}

// natReject: kube-proxy refuses Services without endpoints, so that clients need not wait.
func natReject(Host) (string, error) {
	return routed(func(client, node, _ *space) (string, error) {
		rules := "table ip r { chain c { type filter hook forward priority 0; ip daddr 10.96.0.99 reject; }; }"
		if err := node.nft(rules); err != nil {
			return "", err
		}
		start := time.Now()
		err := client.inside(func() error {
			conn, err := net.DialTimeout("tcp4", "10.96.0.99:80", 5*time.Second)
			if err == nil {
				conn.Close()
			}
			return err
		})
		if !errors.Is(err, syscall.ECONNREFUSED) {
			return "", fmt.Errorf("the connection was not refused: %v", err)
		}
		return fmt.Sprintf("refused after %d ms", time.Since(start).Milliseconds()), nil
	})
}

// toService finds the flows of the test's Service.
type toService struct{}

func (toService) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	return flow.Forward.DstIP.String() == service
}

func serviceFlows(node *space) (int, error) {
	flows, err := node.link.ConntrackTableList(netlink.ConntrackTable, unix.AF_INET)
	count := 0
	for _, flow := range flows {
		if (toService{}).MatchConntrackFlow(flow) {
			count++
		}
	}
	return count, err
}

func conntrackTrack(Host) (string, error) {
	return routed(func(client, node, far *space) (string, error) {
		if _, err := askService(client, node, far); err != nil {
			return "", err
		}
		count, err := serviceFlows(node)
		if err == nil && count == 0 {
			return "", errors.New("the flow was not in the table")
		}
		return fmt.Sprintf("%d flow to the Service was in the table", count), err
	})
}

func conntrackDelete(Host) (string, error) {
	return routed(func(client, node, far *space) (string, error) {
		if _, err := askService(client, node, far); err != nil {
			return "", err
		}
		deleted, err := node.link.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, toService{})
		if err != nil {
			return "", err
		}
		left, err := serviceFlows(node)
		if err == nil && (deleted == 0 || left > 0) {
			return "", fmt.Errorf("%d flows were deleted and %d are left", deleted, left)
		}
		return fmt.Sprintf("%d flow was deleted and none is left", deleted), err
	})
}
