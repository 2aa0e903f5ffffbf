package args

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzConfigFile: a config file gives settings that can be used, or an error.
func FuzzConfigFile(f *testing.F) {
	for _, text := range []string{
		"node-ip: 192.168.127.2\ntls-san: [a, b]\ndisable: traefik\nv: 2\n", "write-kubeconfig-mode: \"0644\"\nkubelet-arg: [a=b]\n",
		"token: 12345678\nnode-name: 0777\ndebug: yes\ntls-san: [a, null, NULL]\n", "tls-san=x: a\n", "a: &a [*a]\n", "disable: !!binary gIGC\n",
		"service-cidr: 10.43.0.248/29\n", "service-cidr: ::ffff:a2b:0/8\n", "cluster-cidr: ::/0\nservice-cidr: ::/0\n", "tls-san:\n", "config: /nowhere\n", "[", "a: {b: c}",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := ParseServer([]string{"--config", path})
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Fatalf("an error of several lines: %q", err)
			}
			return
		}
		if s.NodeName == "" || s.Port < 1 || s.Port > 65535 || net.ParseIP(s.BindAddress) == nil || net.ParseIP(s.ClusterDNS) == nil {
			t.Fatalf("%+v", s)
		}
		for _, name := range s.TLSSANs {
			if !bytes.Contains(data, []byte("<nil>")) && strings.Contains(name, "<nil>") || !bytes.Contains(data, []byte("map[")) && strings.HasPrefix(name, "map[") {
				t.Fatalf("a name %q out of %q", name, data)
			}
		}
	})
}
