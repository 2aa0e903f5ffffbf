package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	reflectionpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
)

// authority signs certificates for one test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t}
	a.key, _ = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := template("test authority")
	template.IsCA, template.BasicConstraintsValid, template.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	a.cert, _ = x509.ParseCertificate(der)
	a.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	return a
}

func template(name string) *x509.Certificate {
	serial, _ := rand.Int(rand.Reader, big.NewInt(1<<60))
	return &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
}

func (a *authority) issue(name string) (certPEM, keyPEM []byte) {
	a.t.Helper()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	der, err := x509.CreateCertificate(rand.Reader, template(name), a.cert, &key.PublicKey, a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, _ := x509.MarshalECPrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

// client returns TLS settings of a client that this authority vouches for.
func (a *authority) client() *tls.Config {
	cert, key := a.issue("client")
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		a.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	return &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}
}

// volume lays a secret out as the kubelet does: the files are links into ..data, itself a link that
// is swapped.
type volume struct {
	dir   string
	round int
}

func (v *volume) write(t *testing.T, files map[string][]byte) {
	t.Helper()
	v.round++
	fresh := filepath.Join(v.dir, strings.Repeat("x", v.round))
	_ = os.MkdirAll(fresh, 0o755)
	for name, data := range files {
		_ = os.WriteFile(filepath.Join(fresh, name), data, 0o600)
		_ = os.Symlink("..data/"+name, filepath.Join(v.dir, name))
	}
	_ = os.Symlink(filepath.Base(fresh), filepath.Join(v.dir, "..tmp"))
	if err := os.Rename(filepath.Join(v.dir, "..tmp"), filepath.Join(v.dir, "..data")); err != nil {
		t.Fatal(err)
	}
}

type demo struct {
	address string
	volume  *volume
	stop    context.CancelFunc
	ended   chan error
	data    string
}

func (d *demo) install(t *testing.T, a *authority) {
	cert, key := a.issue("server")
	d.volume.write(t, map[string][]byte{"tls.crt": cert, "tls.key": key, "ca.crt": a.pem})
}

func startDemo(t *testing.T, a *authority) *demo {
	t.Helper()
	d := &demo{volume: &volume{dir: t.TempDir()}, ended: make(chan error, 1), data: filepath.Join(t.TempDir(), "data")}
	var ctx context.Context
	ctx, d.stop = context.WithCancel(context.Background())
	t.Cleanup(d.stop)
	ready := make(chan net.Addr, 1)
	go func() {
		d.ended <- run(ctx, options{
			listen: "127.0.0.1:0", tlsDir: d.volume.dir, clientCA: filepath.Join(d.volume.dir, "ca.crt"), data: d.data,
		}, ready)
	}()
	d.install(t, a) // after the start: it has to wait for its files
	select {
	case address := <-ready:
		d.address = address.String()
	case err := <-d.ended:
		t.Fatal(err)
	}
	return d
}

func (d *demo) request(method, path string, settings *tls.Config, http2 bool) (int, string, error) {
	transport := &http.Transport{TLSClientConfig: settings, ForceAttemptHTTP2: http2}
	defer transport.CloseIdleConnections()
	request, _ := http.NewRequest(method, "https://"+d.address+path, nil)
	response, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Do(request)
	if err != nil {
		return 0, "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return response.ProtoMajor*1000 + response.StatusCode, string(body), err
}

func TestOnePortServesPagesAndRPC(t *testing.T) {
	a := newAuthority(t)
	d := startDemo(t, a)
	for _, http2 := range []bool{false, true} {
		want := 1200
		if http2 {
			want = 2200
		}
		code, body, err := d.request("GET", "/", a.client(), http2)
		if code != want || !strings.Contains(body, "hostname: ") || !strings.Contains(body, "started-at: ") {
			t.Errorf("%d %q %v", code, body, err)
		}
	}
	if code, body, _ := d.request("GET", "/healthz", a.client(), true); code != 2200 || body != "ok\n" {
		t.Errorf("%d %q", code, body)
	}
	if code, _, _ := d.request("GET", "/nope", a.client(), true); code != 2404 {
		t.Errorf("%d", code)
	}
	conn, err := grpc.NewClient(d.address, grpc.WithTransportCredentials(credentials.NewTLS(a.client())))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reply, err := healthpb.NewHealthClient(conn).Check(ctx, &healthpb.HealthCheckRequest{})
	if err != nil || reply.Status != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("%v %v", reply, err)
	}
	stream, err := reflectionpb.NewServerReflectionClient(conn).ServerReflectionInfo(ctx)
	if err != nil {
		t.Fatal(err)
	}
	_ = stream.Send(&reflectionpb.ServerReflectionRequest{
		MessageRequest: &reflectionpb.ServerReflectionRequest_ListServices{},
	})
	services, err := stream.Recv()
	if err != nil || !strings.Contains(services.String(), "grpc.health.v1.Health") {
		t.Errorf("%v %v", services, err)
	}
}

func TestRefusesWhoHasNoGoodCertificate(t *testing.T) {
	a := newAuthority(t)
	d := startDemo(t, a)
	none := a.client()
	none.Certificates = nil
	stranger := a.client()
	stranger.Certificates = newAuthority(t).client().Certificates
	old := a.client()
	old.MaxVersion = tls.VersionTLS11
	old.MinVersion = tls.VersionTLS10
	twelve := a.client()
	twelve.MaxVersion = tls.VersionTLS12
	twelve.Certificates = nil
	for name, settings := range map[string]*tls.Config{
		"no certificate": none, "no certificate, TLS 1.2": twelve, "a stranger's": stranger, "TLS 1.1": old,
	} {
		conn, err := tls.Dial("tcp", d.address, settings)
		if err == nil {
			// In TLS 1.3 the client has finished before the server has judged: the answer comes now.
			_, err = conn.Read(make([]byte, 1))
			conn.Close()
		}
		if err == nil || !strings.Contains(err.Error(), "tls: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestReloadsItsCertificates(t *testing.T) {
	a, b := newAuthority(t), newAuthority(t)
	d := startDemo(t, a)
	open, err := tls.Dial("tcp", d.address, a.client())
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	_, _ = open.Write([]byte("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"))
	_, _ = open.Read(make([]byte, 1000))
	// A half-written secret must not take anything away.
	d.volume.write(t, map[string][]byte{"tls.crt": []byte("nothing")})
	time.Sleep(1200 * time.Millisecond)
	if code, _, err := d.request("GET", "/healthz", a.client(), true); code != 2200 {
		t.Fatal(code, err)
	}
	d.install(t, b)
	for deadline := time.Now().Add(4 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if code, _, err := d.request("GET", "/healthz", b.client(), true); code == 2200 {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(code, err)
		}
	}
	if _, _, err := d.request("GET", "/healthz", a.client(), true); err == nil {
		t.Error("the old authority is still accepted")
	}
	_ = open.SetReadDeadline(time.Now().Add(2 * time.Second))
	if _, err := open.Read(make([]byte, 1)); err == nil || os.IsTimeout(err) {
		t.Errorf("a connection of the old authority lives on: %v", err)
	}
}

func TestCounterSurvivesARestart(t *testing.T) {
	a := newAuthority(t)
	d := startDemo(t, a)
	if code, _, _ := d.request("POST", "/counter", a.client(), true); code != 2404 {
		t.Errorf("without a volume: %d", code)
	}
	_ = os.Mkdir(d.data, 0o755)
	for _, want := range []string{"1\n", "2\n"} {
		if _, body, _ := d.request("POST", "/counter", a.client(), true); body != want {
			t.Errorf("%q, want %q", body, want)
		}
	}
	again := &counter{dir: d.data}
	if n, err := again.read(); n != 2 || err != nil {
		t.Error(n, err)
	}
	if left, _ := filepath.Glob(d.data + "/.counter-*"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	_ = os.WriteFile(filepath.Join(d.data, "counter"), []byte("x"), 0o600)
	if code, _, _ := d.request("GET", "/counter", a.client(), true); code != 2500 {
		t.Errorf("a broken file: %d", code)
	}
}

func TestStopsInTimeWithAnOpenStream(t *testing.T) {
	a := newAuthority(t)
	d := startDemo(t, a)
	conn, err := grpc.NewClient(d.address, grpc.WithTransportCredentials(credentials.NewTLS(a.client())))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	watch, err := healthpb.NewHealthClient(conn).Watch(context.Background(), &healthpb.HealthCheckRequest{})
	if err == nil {
		_, err = watch.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	d.stop()
	if err := <-d.ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	}
}

func TestRunSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"tls.crt", "tls.key", "ca.crt"} {
		_ = os.WriteFile(filepath.Join(dir, name), bytes.Repeat([]byte("x"), 10), 0o600)
	}
	err := run(context.Background(), options{listen: "127.0.0.1:0", tlsDir: dir, clientCA: dir + "/ca.crt"}, nil)
	if err == nil || !strings.Contains(err.Error(), "no usable certificates") {
		t.Error(err)
	}
}
