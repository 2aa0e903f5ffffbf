package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func TestParseEndpointFollowsK3s(t *testing.T) {
	for text, want := range map[string]string{
		"mirror.example":                 "https mirror.example /v2",
		"https://mirror.example/":        "https mirror.example /v2",
		"http://mirror.example/v2/inner": "http mirror.example /v2/inner",
		"localhost:5000":                 "http localhost:5000 /v2",
		"127.0.0.1:443":                  "https 127.0.0.1:443 /v2",
		"docker.io":                      "https registry-1.docker.io /v2",
	} {
		e, err := parseEndpoint(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := e.scheme + " " + e.host + " " + e.path; got != want {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
	for _, text := range []string{"ftp://x", "http://", "://"} {
		if _, err := parseEndpoint(text); err == nil {
			t.Errorf("%s: no error", text)
		}
	}
}

func TestEndpointsAskMirrorsFirst(t *testing.T) {
	repo, _ := name.NewRepository("ghcr.io/team/app")
	settings := registries{Mirrors: map[string]mirror{
		"ghcr.io": {Endpoints: []string{"https://a.example", "http://b.example"}, Rewrites: map[string]string{"^team/": "kept/"}},
		"*":       {Endpoints: []string{"https://c.example"}},
	}}
	found, err := endpoints(repo, settings, nil)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range found {
		got = append(got, e.String()+" "+e.repo)
	}
	want := "https://a.example kept/app, http://b.example kept/app, https://ghcr.io team/app"
	if strings.Join(got, ", ") != want {
		t.Errorf("got %v", got)
	}
	other, _ := name.NewRepository("quay.io/app")
	if found, _ = endpoints(other, settings, nil); len(found) != 2 || found[0].host != "c.example" {
		t.Errorf("the wildcard: %v", found)
	}
}

func TestSweepKeepsWhatIsAskedFor(t *testing.T) {
	cache := &blobCache{dir: t.TempDir()}
	old, young := filepath.Join(cache.dir, "old"), filepath.Join(cache.dir, "young")
	for _, path := range []string{old, young} {
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-keepFor - time.Hour)
	if err := os.Chtimes(old, past, past); err != nil {
		t.Fatal(err)
	}
	cache.sweep(time.Now())
	if _, err := os.Stat(old); err == nil {
		t.Error("the old one is still there")
	}
	if _, err := os.Stat(young); err != nil {
		t.Error("the young one is gone")
	}
}

func TestDamagedBlobsOfTheCacheArePulledAgain(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	image, err := random.Image(4096, 2)
	if err != nil {
		t.Fatal(err)
	}
	host := strings.TrimPrefix(server.URL, "http://")
	ref, _ := name.ParseReference(host + "/app:1")
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	digest, _ := image.Digest()
	dir := t.TempDir()
	pull := func() error {
		asked := &request{Arch: "", Blobs: filepath.Join(dir, "blobs"), Kind: "image", Ref: ref.String(), Digest: digest.String(), Output: filepath.Join(dir, "out.tar")}
		p, err := newPuller(asked, &report{encoder: json.NewEncoder(io.Discard)})
		if err != nil {
			return err
		}
		manifest, _ := image.Manifest()
		var list []descriptor
		for _, layer := range manifest.Layers {
			list = append(list, descriptor{Digest: layer.Digest.String(), Size: layer.Size})
		}
		return p.all(context.Background(), list)
	}
	if err := pull(); err != nil {
		t.Fatal(err)
	}
	layers, _ := image.Layers()
	first, _ := layers[0].Digest()
	path := filepath.Join(dir, "blobs", first.Hex)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, damaged := range [][]byte{whole[:100], append([]byte("x"), whole[1:]...)} {
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := pull(); err != nil {
			t.Fatal(err)
		}
		if again, _ := os.ReadFile(path); string(again) != string(whole) {
			t.Error("the damaged blob was kept")
		}
	}
	// What an earlier pull left may be wrong, too.
	_ = os.Remove(path)
	if err := os.WriteFile(path+".part", []byte(strings.Repeat("x", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := pull(); err != nil {
		t.Fatal(err)
	}
}

func TestATagsDigestIsAskedForByTheSameEndpoints(t *testing.T) {
	server := httptest.NewServer(registry.New())
	defer server.Close()
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<html>") }))
	defer page.Close()
	image, err := random.Image(1024, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, _ := name.ParseReference(strings.TrimPrefix(server.URL, "http://") + "/kept/app:1")
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	ask := func(ref string, digest string, endpoints ...string) (*result, error) {
		rules := registries{Mirrors: map[string]mirror{
			"hub.invalid": {Endpoints: endpoints, Rewrites: map[string]string{"^team/": "kept/"}},
		}}
		asked := &request{Blobs: filepath.Join(dir, "blobs"), Kind: "digest", Ref: ref, Digest: digest, Registries: rules}
		p, err := newPuller(asked, &report{encoder: json.NewEncoder(io.Discard)})
		if err != nil {
			return nil, err
		}
		return p.digest(context.Background())
	}
	want, _ := image.Digest()
	// A page that answers everything with a text is passed over.
	got, err := ask("hub.invalid/team/app:1", "", page.URL, server.URL)
	if err != nil || got.Manifest != want.String() {
		t.Fatalf("got %v, %v, want %s", got, err, want)
	}
	for text, wrong := range map[string]struct{ ref, digest, endpoint, kind string }{
		"no tag":       {"hub.invalid/team/app", "", server.URL, "request"},
		"a digest":     {"hub.invalid/team/app:1", want.String(), server.URL, "request"},
		"no manifest":  {"hub.invalid/team/app:1", "", page.URL, "layout"},
		"no such host": {"hub.invalid/team/app:2", "", server.URL, "unknown-host"},
	} {
		_, err := ask(wrong.ref, wrong.digest, wrong.endpoint)
		if err == nil || classify(err).Kind != wrong.kind {
			t.Errorf("%s: %v", text, err)
		}
	}
	if files, _ := os.ReadDir(filepath.Join(dir, "blobs")); len(files) != 0 {
		t.Errorf("files were written: %v", files)
	}
}

func TestAHelperOfTheDockerConfigIsNamed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("DOCKER_CONFIG", dir)
	t.Setenv("PATH", dir)
	repo, err := name.NewRepository("registry.test/app")
	if err != nil {
		t.Fatal(err)
	}
	asked := func(text string) string {
		if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := login(repo, "registry.test", true, nil)
		if err == nil {
			t.Fatalf("no error with %s", text)
		}
		return err.Error()
	}
	failing := "#!/bin/sh\necho secret; exit 1\n"
	if err := os.WriteFile(filepath.Join(dir, "docker-credential-here"), []byte(failing), 0o755); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		`{"credsStore": "gone"}`:                     "it names the helper docker-credential-gone, which is not on PATH",
		`{"credHelpers": {"registry.test": "gone"}}`: "it names the helper docker-credential-gone, which is not on PATH",
		`{"credsStore": "here"}`:                     "its helper docker-credential-here failed",
		`{`:                                          "it cannot be read",
	} {
		if said := asked(text); !strings.HasSuffix(said, want) || strings.Contains(said, "secret") {
			t.Errorf("%s: %q", text, said)
		}
	}
}
