package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/miekg/dns"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/guesttest"
	"gateway.local/gvproxy/internal/limits"
	"gateway.local/gvproxy/internal/logs"
	"gateway.local/gvproxy/internal/names"
)

// What a flood may cost, measured on a gvproxy of its own. The logged line is read by `task bench safety`.
const (
	maxFloodMiB    = 100
	maxFloodLogKiB = 64
)

// runWithResolver is the program with a resolver that never answers, so that no question leaves the host.
func runWithResolver(path string) int {
	config, err := config.Load(path)
	if err == nil {
		err = logs.Set(config.LogLevel, os.Stderr)
	}
	if err == nil {
		err = limits.Process()
	}
	if err == nil {
		hole, _ := net.ListenPacket("udp4", "127.0.0.1:0")
		_, port, _ := net.SplitHostPort(hole.LocalAddr().String())
		err = serve(context.Background(), config, &names.Resolver{ResolvConf: "/nowhere", Hosts: "/nowhere", Port: port})
		runtime.KeepAlive(hole)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// flooded is a gvproxy process and its guest.
type flooded struct {
	*proxy
	guest   *guesttest.Guest
	mostFDs int
}

func newFlooded(t *testing.T) *flooded {
	t.Helper()
	if _, err := os.Stat("/proc/self/fd"); err != nil {
		t.Skip("the cost is read from /proc")
	}
	p := startProxyWith(t, "GVPROXY_TEST_FLOOD")
	return &flooded{proxy: p, guest: guesttest.Qemu(t, p.config.ListenQemu)}
}

func startProxyWith(t *testing.T, variable string) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "gvp")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	p := &proxy{t: t, ended: make(chan struct{}), config: config.Config{
		ListenQemu: dir + "/qemu", API: dir + "/api", Egress: config.EgressAll,
	}}
	text, _ := json.Marshal(p.config)
	_ = os.WriteFile(dir+"/config.json", text, 0o600)
	self, _ := os.Executable()
	p.cmd = exec.Command(self)
	p.cmd.Env = append(os.Environ(), variable+"="+dir+"/config.json")
	log, err := os.Create(dir + "/log")
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stderr = log
	p.run()
	return p
}

// look counts the descriptors.
func (f *flooded) look() int {
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", f.cmd.Process.Pid))
	f.mostFDs = max(f.mostFDs, len(entries))
	return len(entries)
}

func (f *flooded) stat(name string) int {
	_, stats := f.call("GET", "/stats", nil)
	value, _ := stats[name].(float64)
	return int(value)
}

// check fails when the flood cost more than it may, or when the API does not answer.
func (f *flooded) check(name string) {
	f.t.Helper()
	f.look()
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", f.cmd.Process.Pid))
	_, peak, _ := strings.Cut(string(status), "VmHWM:")
	kib := 0
	if _, err := fmt.Sscan(peak, &kib); err != nil {
		f.t.Fatal(err)
	}
	log, _ := os.Stat(filepath.Dir(f.config.API) + "/log")
	f.t.Logf("FLOOD %s %d MiB %d descriptors %d KiB of log", name, kib>>10, f.mostFDs, log.Size()>>10)
	if kib>>10 > maxFloodMiB || f.mostFDs > limits.MaxDescriptors || log.Size()>>10 > maxFloodLogKiB {
		f.t.Errorf("%s: %d MiB, %d descriptors, %d KiB of log", name, kib>>10, f.mostFDs, log.Size()>>10)
	}
	if code, _ := f.call("GET", "/healthz", nil); code != 200 {
		f.t.Errorf("%s: the API does not answer", name)
	}
}

func TestFloodOfSources(t *testing.T) {
	const frames = 300_000
	f := newFlooded(t)
	for i := range frames {
		f.guest.Send(guesttest.FrameFrom(uint32(i)))
	}
	guesttest.ComesToBe(t, "the frames to be dropped", func() bool { return f.stat("droppedFrames") >= frames })
	f.check("sources")
}

func TestFloodOfDHCP(t *testing.T) {
	const messages = 50_000
	f := newFlooded(t)
	own, server := guesttest.FullAddress("192.168.127.2:68"), guesttest.FullAddress("192.168.127.1:67")
	conn, err := gonet.DialUDP(f.guest.Stack, &own, &server, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	kinds := []dhcpv4.MessageType{dhcpv4.MessageTypeDecline, dhcpv4.MessageTypeDiscover, dhcpv4.MessageTypeRequest, 99}
	for i := range messages {
		mac := net.HardwareAddr{2, 0, 0, 0, byte(i >> 8), byte(i)}
		if i%3 == 0 {
			mac, _ = net.ParseMAC(config.DefaultGuestMAC)
		}
		message, _ := dhcpv4.New(dhcpv4.WithHwAddr(mac), dhcpv4.WithMessageType(kinds[i%len(kinds)]))
		_, _ = conn.Write(message.ToBytes())
		_, _ = conn.Write([]byte("not a message"))
	}
	f.check("dhcp")
	if _, leases := f.call("GET", "/leases", nil); len(leases) != 3 {
		t.Errorf("leases %v", leases)
	}
}

func TestFloodOfDNS(t *testing.T) {
	f := newFlooded(t)
	at := guesttest.FullAddress("192.168.127.1:53")
	conn, err := gonet.DialUDP(f.guest.Stack, nil, &at, ipv4.ProtocolNumber)
	if err != nil {
		t.Fatal(err)
	}
	failed := make(chan int)
	go func() {
		count, buffer := 0, make([]byte, 1500)
		for {
			size, err := conn.Read(buffer)
			if err != nil {
				failed <- count
				return
			}
			reply := new(dns.Msg)
			if reply.Unpack(buffer[:size]) == nil && reply.Rcode == dns.RcodeServerFailure {
				count++
			}
		}
	}()
	kinds := []uint16{dns.TypeA, dns.TypeTXT, dns.TypeMX, dns.TypeSRV, dns.TypePTR}
	most := 0
	for i := range 20_000 {
		query := new(dns.Msg).SetQuestion(fmt.Sprintf("h%d.example.", i), kinds[i%len(kinds)])
		message, _ := query.Pack()
		_, _ = conn.Write(message)
		if i%500 == 499 {
			most = max(most, f.look())
		}
	}
	f.check("dns")
	conn.Close()
	if count := <-failed; count == 0 {
		t.Error("no question beyond the limit was answered with SERVFAIL")
	}
	if most < limits.MaxLookups || most > limits.MaxLookups+64 {
		t.Errorf("%d descriptors", most)
	}
}

func TestTheProcessLimitsItsDescriptors(t *testing.T) {
	f := newFlooded(t)
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", f.cmd.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		if strings.HasPrefix(line, "Max open files") && !strings.Contains(line, fmt.Sprintf(" %d ", limits.MaxDescriptors)) {
			t.Error(line)
		}
	}
}
