package args

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestParseServerReadsTheGatewaysCommandLine(t *testing.T) {
	s, err := ParseServer(strings.Fields("--disable=traefik,servicelb,metrics-server,coredns,local-storage " +
		"--disable-cloud-controller --disable-helm-controller --disable-network-policy --flannel-backend=none " +
		"--kube-proxy-arg=proxy-mode=nftables --node-name=Box --node-ip=192.168.127.2 --tls-san=127.0.0.1 " +
		"--write-kubeconfig-mode=640 --pause-image=gateway.local/pause:3.10"))
	if err != nil {
		t.Fatal(err)
	}
	if s.NodeName != "box" || s.NodeIP != "192.168.127.2" || s.KubeconfigMode != 0o640 || len(s.Disable) != 5 {
		t.Errorf("got %+v", s)
	}
	if s.ClusterDNS != "10.43.0.10" || s.Port != 6443 || s.DataDir != "/var/lib/rancher/k3s" {
		t.Errorf("defaults: got %+v", s)
	}
	if got := Flags(s.ProxyArgs); len(got) != 1 || got[0] != "--proxy-mode=nftables" {
		t.Errorf("proxy arguments: got %q", got)
	}
	if len(s.Ignored) != 1 || !s.DisableHelm || !s.DisablePolicy || s.HelmJobImage != "gateway.local/helm:1" {
		t.Errorf("ignored: got %q", s.Ignored)
	}
}

func TestParseServerRefusesWithOneLineThatNamesTheValue(t *testing.T) {
	for argv, want := range map[string]string{
		"--nonsense":                      "unknown flag: --nonsense",
		"--flannel-backend=vxlan":         `"vxlan"`,
		"--write-kubeconfig-mode=9":       `"9"`,
		"--node-ip=here":                  `"here"`,
		"--service-cidr=fd00::/112":       "IPv4",
		"--cluster-cidr=10.42":            "--cluster-cidr",
		"--https-listen-port=70000":       "70000",
		"--kubelet-arg==":                 "NAME=VALUE",
		"--service-cidr=10.43.0.0/30":     "too small",
		"extra":                           `"extra"`,
		"--config=/nonexistent/kubenode":  "config file",
		"--bind-address=everywhere":       "everywhere",
		"--cluster-dns=dns.example.local": "dns.example.local",
	} {
		_, err := ParseServer([]string{argv})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: got %v, want one line with %q", argv, err, want)
		}
	}
}

func TestParseServerLetsTheCommandLineWinOverTheConfigFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.yaml")
	text := "node-name: from-file\nnode-ip: 10.0.0.1\ntls-san:\n- a\n- b\ndebug: true\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := ParseServer([]string{"--config", path, "--node-ip=10.0.0.2"})
	if err != nil {
		t.Fatal(err)
	}
	if s.NodeName != "from-file" || s.NodeIP != "10.0.0.2" || len(s.TLSSANs) != 2 || !s.Debug {
		t.Errorf("got %+v", s)
	}
}

func TestServiceAddressCountsFromTheNetwork(t *testing.T) {
	s := &Server{ServiceCIDR: "10.43.0.0/16"}
	if ip, err := s.ServiceAddress(1); err != nil || ip.String() != "10.43.0.1" {
		t.Errorf("got %v, %v", ip, err)
	}
}
