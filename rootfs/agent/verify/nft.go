//go:build linux

package verify

// nftChecks loads one rule set per expression, each in a namespace of its own: the kernel refuses a
// rule whose expression it does not have.
func nftChecks() map[string]check {
	all := map[string]check{}
	for name, rules := range nftRules {
		all["nft."+name] = func(Host) (string, error) {
			return withSpaces(1, func(s []*space) (string, error) {
				return "the kernel took the rule", s[0].nft(rules)
			})
		}
	}
	return all
}

func chain(family, kind, hook, rule string) string {
	return "table " + family + " t { chain c { type " + kind + " hook " + hook + "; " + rule + "; }; }\n"
}

var nftRules = map[string]string{
	"inet":       chain("inet", "filter", "input priority 0", "counter accept"),
	"ip":         chain("ip", "filter", "input priority 0", "counter accept"),
	"ip6":        chain("ip6", "filter", "input priority 0", "counter accept"),
	"bridge":     chain("bridge", "filter", "forward priority 0", `meta ibrname "br0" counter`),
	"netdev":     chain("netdev", "filter", `ingress device "lo" priority 0`, "counter accept"),
	"ct":         chain("ip", "filter", "input priority 0", "ct state established,related ct mark set 1 accept"),
	"dnat":       chain("ip", "nat", "prerouting priority dstnat", "ip daddr 10.96.0.1 tcp dport 443 dnat to 10.42.0.5:6443"),
	"masquerade": chain("ip", "nat", "postrouting priority srcnat", "meta mark & 0x4000 != 0 masquerade fully-random"),
	"redirect":   chain("ip", "nat", "prerouting priority dstnat", "tcp dport 80 redirect to :8080"),
	"fib":        chain("ip", "nat", "prerouting priority dstnat", "fib daddr type local counter"),
	"reject":     chain("ip", "filter", "forward priority 0", "meta l4proto tcp reject with tcp reset"),
	"limit":      chain("ip", "filter", "input priority 0", "limit rate 5/second accept"),
	"log":        chain("ip", "filter", "input priority 0", `ip saddr 192.0.2.1 log prefix "gateway-verify "`),
	"hash":       chain("ip", "filter", "prerouting priority 0", "meta mark set jhash ip saddr mod 4"),
	"queue":      chain("ip", "filter", "input priority 0", "ip saddr 192.0.2.1 queue num 0"),
	"quota":      chain("ip", "filter", "input priority 0", "quota over 10 mbytes drop"),
	"connlimit":  chain("ip", "filter", "input priority 0", "ct count over 20 drop"),
	"socket":     chain("ip", "filter", "prerouting priority mangle", "socket transparent 1 counter accept"),
	"tproxy":     chain("ip", "filter", "prerouting priority mangle", "meta l4proto tcp tproxy to :9000"),
	"numgen": `table ip t { chain e0 { counter; }; chain e1 { counter; };
		chain c { type nat hook prerouting priority dstnat; numgen random mod 2 vmap { 0 : goto e0, 1 : goto e1 }; }; }`,
	"sets": `table ip t { chain k { counter; };
		set i { type ipv4_addr; flags interval; elements = { 10.42.0.0/16 }; };
		set a { type ipv4_addr; flags dynamic,timeout; timeout 10s; };
		map m { type ipv4_addr . inet_proto . inet_service : verdict; elements = { 10.96.0.1 . tcp . 443 : goto k }; };
		chain c { type filter hook prerouting priority 0; ip saddr @i update @a { ip saddr };
			ip daddr . meta l4proto . th dport vmap @m; }; }`,
	"flow": `table inet t { flowtable f { hook ingress priority 0; devices = { "lo" }; };
		chain c { type filter hook forward priority 0; meta l4proto tcp flow add @f; }; }`,
}
