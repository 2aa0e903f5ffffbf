package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/relay"
)

// TestMain makes the test program the real one when a test starts it again.
func TestMain(m *testing.M) {
	if os.Getenv("GVPROXY_TEST_MAIN") != "" {
		main()
	}
	if path := os.Getenv("GVPROXY_TEST_FLOOD"); path != "" {
		os.Exit(runWithResolver(path))
	}
	os.Exit(m.Run())
}

// proxy is a running gvproxy.
type proxy struct {
	t      *testing.T
	config config.Config
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stderr bytes.Buffer
	client http.Client
	ended  chan struct{}
}

func startProxy(t *testing.T, services ...config.HostService) *proxy {
	t.Helper()
	dir, err := os.MkdirTemp("", "gvp") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return startProxyIn(t, dir, services...)
}

func startProxyIn(t *testing.T, dir string, services ...config.HostService) *proxy {
	t.Helper()
	p := &proxy{t: t, ended: make(chan struct{}), config: config.Config{
		ListenQemu: dir + "/qemu", ListenVfkit: dir + "/vfkit", API: dir + "/api", ExitWithParent: true,
		HostServices: services,
	}}
	text, _ := json.Marshal(p.config)
	_ = os.WriteFile(dir+"/config.json", text, 0o600)
	self, _ := os.Executable()
	p.cmd = exec.Command(self, "-config", dir+"/config.json")
	p.cmd.Env = append(os.Environ(), "GVPROXY_TEST_MAIN=1")
	p.cmd.Stderr = &p.stderr
	p.run()
	return p
}

// run starts the process and returns once its API answers.
func (p *proxy) run() {
	t := p.t
	t.Helper()
	var err error
	if p.stdin, err = p.cmd.StdinPipe(); err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = p.cmd.Wait(); close(p.ended) }()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		<-p.ended
		if t.Failed() {
			t.Logf("gvproxy said:\n%s", p.stderr.String())
		}
	})
	p.client.Transport = &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", p.config.API)
	}}
	for range 500 {
		if status, _ := p.call("GET", "/healthz", nil); status == http.StatusOK {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("gvproxy did not start: %s", p.stderr.String())
}

// call returns status and body.
func (p *proxy) call(method, path string, body any) (int, map[string]any) {
	text, _ := json.Marshal(body)
	request, _ := http.NewRequest(method, "http://gvproxy"+path, bytes.NewReader(text))
	response, err := p.client.Do(request)
	if err != nil {
		return 0, nil
	}
	defer response.Body.Close()
	out := map[string]any{}
	_ = json.NewDecoder(response.Body).Decode(&out)
	return response.StatusCode, out
}

// expose opens a forward and returns its local address.
func (p *proxy) expose(local, remote string) string {
	p.t.Helper()
	status, body := p.call("POST", "/forwards", relay.Forward{Local: local, Remote: remote})
	if status != http.StatusOK {
		p.t.Fatalf("expose: %d %v", status, body)
	}
	return body["local"].(string)
}

func (p *proxy) waitEnd() int {
	p.t.Helper()
	select {
	case <-p.ended:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(15 * time.Second):
		p.t.Fatal("gvproxy did not end")
		return -1
	}
}

// echoes sends data through a connection and compares what comes back.
func echoes(t *testing.T, address string, size int) {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	go func() {
		_, _ = conn.Write(data)
		_ = conn.(*net.TCPConn).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d of %d bytes came back: %v", len(got), len(data), err)
	}
}
