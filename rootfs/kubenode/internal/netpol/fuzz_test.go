package netpol

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// FuzzRules: whatever a result of the CNI library and the addresses of a pod say, the rules hold addresses and nothing else.
func FuzzRules(f *testing.F) {
	f.Add([]byte(`{"cniArgs":[["K8S_POD_NAMESPACE","a"],["K8S_POD_NAME","x"]],"result":{"ips":[{"address":"10.42.0.7/24"},{"address":"::1/128"}]}}`), "10.42.0.7")
	f.Add([]byte(`{"cniArgs":[["K8S_POD_NAME","x"],["K8S_POD_NAMESPACE","a"],[]],"result":{"ips":[{"address":"::ffff:10.42.0.8/120"}]}}`), "fe80::1%}")
	f.Add([]byte(`{"cniArgs":null,"result":{"ips":[null]}}`), "} flush ruleset")
	lines := strings.Count(Rules{}.Text(), "\n")
	f.Fuzz(func(t *testing.T, data []byte, address string) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "one"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		owners := Owners(dir)
		for ip, key := range owners {
			if parsed, err := netip.ParseAddr(ip); err != nil || parsed.String() != ip || parsed.Zone() != "" || strings.HasSuffix(key, "/") {
				t.Fatalf("%q has the address %q", key, ip)
			}
		}
		pods := []*corev1.Pod{pod("x", "web", address), pod("y", "other", address)}
		rules := RulesFor("10.42.0.0/16", owners, pods, []*networkingv1.NetworkPolicy{policyFor("web")})
		for _, ip := range slices.Concat(rules.Pods[1:], rules.Open, rules.Judged) {
			if parsed, err := netip.ParseAddr(ip); err != nil || !parsed.Is4() {
				t.Fatalf("the rules have %q", ip)
			}
		}
		if strings.Count(rules.Text(), "\n") != lines {
			t.Fatalf("the rules are %s", rules.Text())
		}
	})
}
