// Package netpol decides which packets of pods are shown to the policy engine of sigs.k8s.io/kube-network-policies, and
// tells it which pod has which address. The engine judges the first packet of a connection; the rules here see to it that
// no pod's packet goes past it, from the first instant of the pod to the end of its sandbox.
package netpol

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"text/template"
)

const (
	// Table is the nftables table of these rules.
	Table = "kubenode-netpol"
	// Queue is the netfilter queue that the engine reads.
	Queue = 100
)

// Rules are what the table holds at one time.
type Rules struct {
	// Pods are the networks and addresses of pods.
	Pods []string
	// Open are addresses of pods that no policy selects: their connections are not judged.
	Open []string
	// Judged are addresses of pods with a policy, which always reach themselves.
	Judged []string
}

// Everything that is not known to be open goes to the queue, and a queue without a reader drops: a pod that was just
// started, a stopped engine and a full queue are all closed. Only a connection's first packet that connection tracking
// finds sound is queued, since the engine's parser trusts it.
//
// A socket on this node is the node itself (probes, the API server, pods on the node's network), which policies never
// stop. Pods have no IPv6 addresses but the link-local ones that the kernel gives each interface, and no policy could
// name those: pods on one bridge, and the node, are not reached by them.
var table = template.Must(template.New("rules").Parse(`table inet {{.Table}}
delete table inet {{.Table}}
table inet {{.Table}} {
  set pods { type ipv4_addr; flags interval; {{with .Pods}}elements = { {{.}} };{{end}} }
  set open { type ipv4_addr; {{with .Open}}elements = { {{.}} };{{end}} }
  set self { type ipv4_addr . ipv4_addr; {{with .Self}}elements = { {{.}} };{{end}} }
  chain judge {
    ip saddr . ip daddr @self accept
    ct state new queue num {{.Queue}}
    drop
  }
  chain postrouting {
    type filter hook postrouting priority 95; policy accept;
    meta skuid >= 0 accept
    ct state established,related accept
    ip saddr @pods ip saddr != @open goto judge
    ip daddr @pods ip daddr != @open goto judge
  }
  chain input {
    type filter hook input priority 101; policy accept;
    iifname "lo" accept
    meta iifkind "bridge" ip6 saddr fe80::/10 drop
    ct state established,related accept
    ip saddr @pods ip saddr != @open goto judge
  }
  chain forward {
    type filter hook forward priority 0; policy accept;
    ip6 saddr fe80::/10 drop
  }
}
`))

// Text is the rules as nft reads them: one transaction that replaces the table.
func (r Rules) Text() string {
	var text bytes.Buffer
	var self []string
	for _, address := range r.Judged {
		self = append(self, address+" . "+address)
	}
	values := map[string]any{
		"Table": Table, "Queue": Queue, "Pods": elements(r.Pods), "Open": elements(r.Open), "Self": elements(self),
	}
	if err := table.Execute(&text, values); err != nil {
		panic(err) // the template and its values are constants of this file
	}
	return text.String()
}

func elements(addresses []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(addresses))), ", ")
}

// Close makes the table with no open pod, unless an earlier run in this boot left one: that one's pods go on.
func Close(ctx context.Context, networks ...string) error {
	err := nft(ctx, "create table inet "+Table+"\ndelete table inet "+Table+"\n"+Rules{Pods: networks}.Text())
	if err != nil && strings.Contains(err.Error(), "File exists") {
		return nil
	}
	return err
}

// Apply replaces the table.
func Apply(ctx context.Context, rules Rules) error { return nft(ctx, rules.Text()) }

// Remove takes the table away; it need not be there.
func Remove(ctx context.Context) error {
	return nft(ctx, "table inet "+Table+"\ndelete table inet "+Table+"\n")
}

func nft(ctx context.Context, text string) error {
	command := exec.CommandContext(ctx, "nft", "-f", "-")
	command.Stdin = strings.NewReader(text)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("nft: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
