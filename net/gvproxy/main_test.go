package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/guesttest"
	"gateway.local/gvproxy/internal/relay"
)

func TestTheGuestFindsNoWayToTheHost(t *testing.T) {
	p := startProxy(t)
	g := guesttest.Qemu(t, p.config.ListenQemu)
	port := guesttest.HostServer(t, "127.0.0.1:0")
	for _, target := range []string{
		"192.168.127.1:80", "192.168.127.1:" + port, "192.168.127.254:" + port, "192.168.127.254:80",
		"192.168.127.3:" + port, "192.168.127.253:" + port, "192.168.127.253:80", "192.168.127.253:53",
	} {
		if conn, err := g.Dial(target, 4*time.Second); err == nil {
			conn.Close()
			t.Errorf("the guest could connect to %s", target)
		}
	}
	for _, address := range []string{
		"127.0.0.1", "127.1.2.3", "0.0.0.0", "0.0.0.1", "192.168.127.1", "192.168.127.253", "192.168.127.254", "192.168.127.255",
		"255.255.255.255", "224.0.0.1", "169.254.169.254",
	} {
		if g.SynAnswered(address+":"+port, 700*time.Millisecond) {
			t.Errorf("a hand-made SYN to %s was accepted", address)
		}
	}
}

func TestExposeBindsTheLoopbackUnlessTold(t *testing.T) {
	p := startProxy(t)
	g := guesttest.Qemu(t, p.config.ListenQemu)
	g.Echo("8080")
	local := p.expose(":0", ":8080")
	if !strings.HasPrefix(local, "127.0.0.1:") {
		t.Fatalf("bound %s", local)
	}
	echoes(t, local, 4<<20)
	_, port, _ := net.SplitHostPort(local)
	if outside := guesttest.HostAddress(); outside != "" {
		if conn, err := net.DialTimeout("tcp", outside+":"+port, time.Second); err == nil {
			conn.Close()
			t.Error("the forward can be reached from outside")
		}
		echoes(t, p.expose(outside+":0", "192.168.127.2:8080"), 16)
	}
	if again := p.expose("127.0.0.1:"+port, "192.168.127.2:8080"); again != local {
		t.Errorf("the same forward again gave %s", again)
	}
	if status, body := p.call("DELETE", "/forwards", relay.Forward{Local: local}); status != 200 {
		t.Errorf("unexpose: %d %v", status, body)
	}
	if _, err := net.DialTimeout("tcp", local, time.Second); err == nil {
		t.Error("the port is still open")
	}
	status, body := p.call("DELETE", "/forwards", relay.Forward{Local: local})
	if status != 404 || body["code"] != relay.CodeNotFound {
		t.Errorf("unexpose again: %d %v", status, body)
	}
}

func TestExposeUDP(t *testing.T) {
	p := startProxy(t)
	g := guesttest.Qemu(t, p.config.ListenQemu)
	g.EchoUDP("5000")
	status, body := p.call("POST", "/forwards", relay.Forward{Protocol: "udp", Local: ":0", Remote: ":5000"})
	if status != 200 {
		t.Fatal(status, body)
	}
	conn, err := net.Dial("udp", body["local"].(string))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	got := make([]byte, 100)
	for range 3 {
		_, _ = conn.Write([]byte("hello"))
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		if n, err := conn.Read(got); err != nil || string(got[:n]) != "hello" {
			t.Fatalf("%q %v", got[:n], err)
		}
	}
}

func TestExposeRefuses(t *testing.T) {
	p := startProxy(t)
	taken := "127.0.0.1:" + guesttest.HostServer(t, "127.0.0.1:0")
	ours := p.expose(":0", ":1")
	for _, c := range []struct {
		forward relay.Forward
		status  int
		code    string
	}{
		{relay.Forward{Local: taken, Remote: ":80"}, 409, relay.CodePortInUse},
		{relay.Forward{Local: ours, Remote: ":2"}, 409, relay.CodePortInUse},
		{relay.Forward{Protocol: "unix", Local: "/tmp/x", Remote: "tcp://192.168.127.2:80"}, 400, relay.CodeUnsupported},
		{relay.Forward{Protocol: "npipe", Local: "x", Remote: ":80"}, 400, relay.CodeUnsupported},
		{relay.Forward{Local: "/tmp/x", Remote: ":80"}, 400, relay.CodeBadRequest},
		{relay.Forward{Local: "localhost:0", Remote: ":80"}, 400, relay.CodeBadRequest},
		{relay.Forward{Local: "30051", Remote: ":80"}, 400, relay.CodeBadRequest},
		{relay.Forward{Local: ":99999", Remote: ":80"}, 400, relay.CodeBadRequest},
		{relay.Forward{Local: ":0", Remote: ":0"}, 400, relay.CodeBadRequest},
		{relay.Forward{Local: ":0", Remote: "127.0.0.1:22"}, 400, relay.CodeBadRequest},
		{relay.Forward{Local: ":0", Remote: "10.0.0.1:22"}, 400, relay.CodeBadRequest},
		{relay.Forward{Local: "203.0.113.7:0", Remote: ":80"}, 400, relay.CodeNoAddress},
	} {
		status, body := p.call("POST", "/forwards", c.forward)
		if status != c.status || body["code"] != c.code || body["error"] == "" {
			t.Errorf("%+v: %d %v", c.forward, status, body)
		}
	}
	if status, _ := p.call("POST", "/forwards", map[string]string{"local": ":0", "remot": ":1"}); status != 400 {
		t.Errorf("an unknown field: %d", status)
	}
	if status, _ := p.call("POST", "/services/forwarder/expose", relay.Forward{Local: ":0", Remote: ":1"}); status != 404 {
		t.Errorf("the library's own API: %d", status)
	}
}

func TestSocketsAreTheUsersOnlyAndGoAway(t *testing.T) {
	end := map[string]func(p *proxy){
		"stdin":   func(p *proxy) { p.stdin.Close() },
		"SIGTERM": func(p *proxy) { _ = p.cmd.Process.Signal(syscall.SIGTERM) },
	}
	for name, stop := range end {
		p := startProxy(t)
		sockets := []string{p.config.ListenQemu, p.config.ListenVfkit, p.config.API}
		for _, path := range sockets {
			if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v %v", path, info, err)
			}
		}
		p.expose(":0", ":1")
		stop(p)
		if code := p.waitEnd(); code != 0 {
			t.Errorf("%s: exit code %d", name, code)
		}
		for _, path := range sockets {
			if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s: %s is left", name, path)
			}
		}
	}
}

func TestStartOverWhatAKilledProcessLeft(t *testing.T) {
	first := startProxy(t)
	dir := filepath.Dir(first.config.API)
	// A second one must not take the sockets of one that lives.
	if err := clearStale("unix", first.config.API); err == nil {
		t.Error("the socket of a living process was removed")
	}
	_ = first.cmd.Process.Kill()
	<-first.ended
	second := startProxyIn(t, dir)
	guesttest.Qemu(t, second.config.ListenQemu)
	if err := clearStale("unix", dir+"/config.json"); err == nil {
		t.Error("a file was taken for a stale socket")
	}
}

func TestANewVMMTakesThePlaceOfTheOld(t *testing.T) {
	p := startProxy(t)
	var local string
	for round := range 3 {
		g := guesttest.Qemu(t, p.config.ListenQemu)
		g.Echo("8080")
		if local == "" {
			local = p.expose(":0", ":8080")
		}
		echoes(t, local, 1<<20)
		idle, err := net.Dial("tcp", local)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = idle.Write([]byte("x"))
		_, _ = io.ReadFull(idle, make([]byte, 1))
		if round == 0 {
			continue // the next one comes while this one is still there
		}
		g.Conn.Close()
		_ = idle.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := idle.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
			t.Errorf("an open connection does not learn that the guest is gone: %v", err)
		}
	}
	if _, stats := p.call("GET", "/stats", nil); stats["guests"].(float64) != 0 {
		t.Errorf("stats %v", stats)
	}
}

func TestDatagramGuestMayComeBackUnderAnotherName(t *testing.T) {
	p := startProxy(t)
	local := ""
	for range 2 {
		g := guesttest.Vfkit(t, p.config.ListenVfkit)
		g.Echo("8080")
		if local == "" {
			local = p.expose(":0", ":8080")
		}
		echoes(t, local, 1<<20)
		g.Conn.Close()
	}
}

func TestBrokenFramesDoNoHarm(t *testing.T) {
	p := startProxy(t)
	g := guesttest.Qemu(t, p.config.ListenQemu)
	g.Echo("8080")
	for _, size := range []int{0, 1, 13, 14, 20} {
		g.Send(make([]byte, size))
	}
	echoes(t, p.expose(":0", ":8080"), 1<<16)
	if _, stats := p.call("GET", "/stats", nil); stats["droppedFrames"].(float64) != 5 {
		t.Errorf("stats %v", stats)
	}
	_, _ = g.Conn.Write([]byte{0xff, 0xff, 0xff, 0xff})
	g = guesttest.Qemu(t, p.config.ListenQemu)
	if status, _ := p.call("GET", "/healthz", nil); status != 200 {
		t.Error("gvproxy is gone")
	}
}

func TestDHCPGivesTheGuestItsAddress(t *testing.T) {
	p := startProxy(t)
	g := guesttest.Qemu(t, p.config.ListenQemu)
	mac, _ := net.ParseMAC(config.DefaultGuestMAC)
	discover, err := dhcpv4.NewDiscovery(mac)
	if err != nil {
		t.Fatal(err)
	}
	own, server := guesttest.FullAddress("192.168.127.2:68"), guesttest.FullAddress("192.168.127.1:67")
	conn, err := gonet.DialUDP(g.Stack, &own, &server, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = conn.Write(discover.ToBytes())
	_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	data := make([]byte, 1500)
	n, err := conn.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	offer, err := dhcpv4.FromBytes(data[:n])
	if err != nil || offer.YourIPAddr.String() != "192.168.127.2" || offer.Router()[0].String() != "192.168.127.1" ||
		offer.DNS()[0].String() != "192.168.127.1" {
		t.Errorf("%v %v", offer, err)
	}
	if _, leases := p.call("GET", "/leases", nil); leases["192.168.127.2"] != config.DefaultGuestMAC {
		t.Errorf("leases %v", leases)
	}
}

func TestIdleMemory(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("read from /proc")
	}
	p := startProxy(t)
	g := guesttest.Qemu(t, p.config.ListenQemu)
	g.Echo("8080")
	local := p.expose(":0", ":8080")
	for range 8 {
		echoes(t, local, 4<<20)
	}
	// Idle is some time after the work: the collector gives back in the background.
	resident := 0
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(time.Second) {
		if resident = residentKiB(t, p.cmd.Process.Pid); resident <= 40*1024 {
			return
		}
	}
	t.Errorf("resident: %d KiB", resident)
}

func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(status), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == "VmRSS:" {
			kib, _ := strconv.Atoi(fields[1])
			t.Logf("resident: %d KiB", kib)
			return kib
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

func TestConfigRefuses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "config.json")
	for _, text := range []string{
		`{}`, `{"api":"a"}`, `{"listenQemu":"q"}`, `{"listenQemu":"q","api":"a","nat":{}}`,
		`{"listenQemu":"q","api":"a","subnet":"192.168.127.0/30"}`, `{"listenQemu":"q","api":"a","subnet":"fd00::/64"}`,
		`{"listenQemu":"q","api":"a","guestIp":"10.0.0.1"}`, `{"listenQemu":"q","api":"a","guestMac":"x"}`,
		`{"listenQemu":"q","api":"a","hostServices":[{"guestPort":0,"hostPort":1}]}`,
		`{"listenQemu":"q","api":"a","hostServices":[{"guestPort":1,"hostPort":1},{"guestPort":1,"hostPort":2}]}`,
		`{"listenQemu":"q","api":"a","hostServices":[{"guestPort":70000,"hostPort":1}]}`,
		`{"listenQemu":"q","api":"a","serviceIp":"192.168.127.2"}`, `{"listenQemu":"q","api":"a","serviceIp":"10.0.0.1"}`,
		`{"listenQemu":"q","api":"a","egress":"lan"}`, `{"listenQemu":"q","api":"a","allowNets":[{"net":"10.0.0.1"}]}`,
		`{"listenQemu":"q","api":"a","allowNets":[{"net":"fd00::/8"}]}`, `{"listenQemu":"q","api":"a","allowHosts":[{"host":"x"}]}`,
		`{"listenQemu":"q","api":"a","guestIp":"192.168.127.1"}`, `{"listenQemu":"q","api":"a","mtu":100}`,
		`{"listenQemu":"q","api":"` + strings.Repeat("x", 104) + `"}`, `no json`,
	} {
		_ = os.WriteFile(path, []byte(text), 0o600)
		if code := run([]string{"-config", path}, strings.NewReader(""), io.Discard); code != 2 {
			t.Errorf("%s: %d", text, code)
		}
	}
	for _, args := range [][]string{nil, {"-config"}, {"-config", "x", "y"}, {"-config", "/nope"}} {
		if code := run(args, strings.NewReader(""), io.Discard); code != 2 {
			t.Errorf("%q: %d", args, code)
		}
	}
}
