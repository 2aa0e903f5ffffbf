package args

import (
	"os"
	"path/filepath"
	"slices"
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
		"--service-cidr=::ffff:a2b:0/8":   "IPv4",
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

func TestParseServerTakesValuesOfTheConfigFileAsTheyStandThere(t *testing.T) {
	read := func(text string) (*Server, error) {
		path := filepath.Join(t.TempDir(), "config.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return ParseServer([]string{"--config", path})
	}
	s, err := read("token: 12345678\nnode-name: 0777\nwrite-kubeconfig-mode: 0644\ndebug: yes\ncluster-domain: on\n" +
		"tls-san: [a, null, 1.10]\nkubelet-arg:\nnode-ip: ~\nbind-address: NULL\ndisable-helm-controller:\n")
	if err != nil {
		t.Fatal(err)
	}
	if s.Token != "12345678" || s.NodeName != "0777" || s.KubeconfigMode != 0o644 || !s.Debug || s.ClusterDomain != "on" {
		t.Errorf("got %+v", s)
	}
	if !slices.Equal(s.TLSSANs, []string{"a", "1.10"}) || s.KubeletArgs != nil || s.NodeIP != "" || s.BindAddress != "0.0.0.0" || s.DisableHelm {
		t.Errorf("empty values: got %+v", s)
	}
	for text, want := range map[string]string{
		"tls-san: {a: secret}": "mapping of flags", "tls-san: [[secret]]": "mapping of flags", "[secret]": "mapping of flags",
		"nonsense:": `"nonsense"`, "tls-san=x: a": `"tls-san=x"`, "help: true": `"help"`, "debug: maybe": "debug",
	} {
		_, err := read(text)
		if err == nil || !strings.Contains(err.Error(), want) || strings.ContainsAny(err.Error(), "\n") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %v, want one line with %q", text, err, want)
		}
	}
}

func TestServiceAddressCountsFromTheNetwork(t *testing.T) {
	s := &Server{ServiceCIDR: "10.43.0.0/16"}
	if ip, err := s.ServiceAddress(1); err != nil || ip.String() != "10.43.0.1" {
		t.Errorf("got %v, %v", ip, err)
	}
}
