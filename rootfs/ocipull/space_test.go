package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// served is a registry with one image of two layers, and what was requested of it.
type served struct {
	image  v1.Image
	layers []v1.Descriptor
	ref    string
	dir    string
	blobs  []string // the Range header of each request for a blob
	ranges bool
	lines  bytes.Buffer
}

func serve(t *testing.T, ranges bool) *served {
	t.Helper()
	s := &served{dir: t.TempDir(), ranges: ranges}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/blobs/") {
			asked := r.Header.Get("Range")
			s.blobs = append(s.blobs, asked)
			r.Header.Del("Range")
			if asked != "" && s.ranges {
				whole := httptest.NewRecorder()
				inner.ServeHTTP(whole, r)
				r.Header.Set("Range", asked)
				http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(whole.Body.Bytes()))
				return
			}
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	plain, err := random.Image(300<<10, 1)
	if err != nil {
		t.Fatal(err)
	}
	config, _ := plain.ConfigFile()
	config.OS, config.Architecture = "linux", "amd64"
	if s.image, err = mutate.ConfigFile(plain, config); err != nil {
		t.Fatal(err)
	}
	s.ref = strings.TrimPrefix(server.URL, "http://") + "/app:1"
	ref, _ := name.ParseReference(s.ref)
	if err := remote.Write(ref, s.image); err != nil {
		t.Fatal(err)
	}
	manifest, _ := s.image.Manifest()
	s.layers = manifest.Layers
	s.blobs = nil
	return s
}

func (s *served) pull(t *testing.T, free int64) (*result, error) {
	t.Helper()
	digest, _ := s.image.Digest()
	s.lines.Reset()
	p, err := newPuller(&request{
		Arch: "amd64", Blobs: filepath.Join(s.dir, "blobs"), Kind: "image", Ref: s.ref, Digest: digest.String(),
		Output: filepath.Join(s.dir, "out.tar"),
	}, &report{encoder: json.NewEncoder(&s.lines)})
	if err != nil {
		t.Fatal(err)
	}
	p.free = func(string) (int64, error) { return free, nil }
	return p.image(context.Background())
}

// cut leaves what an interrupted pull leaves of the layer.
func (s *served) cut(t *testing.T, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Join(s.dir, "blobs"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "blobs", s.layers[0].Digest.Hex+".part"), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func (s *served) layer(t *testing.T) []byte {
	t.Helper()
	if _, err := s.pull(t, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(s.dir, "blobs", s.layers[0].Digest.Hex)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	s.blobs = nil
	return content
}

func TestAnImageLargerThanTheDiskIsRefusedBeforeItsFirstBlob(t *testing.T) {
	s := serve(t, true)
	_, err := s.pull(t, 500<<10)
	if err == nil || classify(err).Kind != "no-space" {
		t.Fatalf("got %v", err)
	}
	if why := classify(err).Why; !strings.Contains(why, "it needs 60") || !strings.Contains(why, "500.0 KiB are free") {
		t.Errorf("got %q", why)
	}
	if len(s.blobs) != 0 {
		t.Errorf("%d blobs were requested", len(s.blobs))
	}
	// What is in the cache already needs no more space.
	s.cut(t, s.layer(t))
	if _, err := s.pull(t, 500<<10); err != nil {
		t.Error(err)
	}
}

func TestTheDownloadsSizeIsReportedBeforeTheFirstProgress(t *testing.T) {
	s := serve(t, true)
	content := s.layer(t)
	if first, _, _ := strings.Cut(s.lines.String(), "\n"); !strings.HasPrefix(first, `{"note":"downloading 30`) {
		t.Errorf("got %s", first)
	}
	s.cut(t, content[:200<<10])
	if _, err := s.pull(t, math.MaxInt64); err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(s.lines.String(), "\n")
	if !strings.HasPrefix(first, `{"note":"downloading 10`) || !strings.Contains(first, "KiB of 30") {
		t.Errorf("got %s", first)
	}
}

func TestASizeIsAskedForWithoutABlob(t *testing.T) {
	s := serve(t, true)
	digest, _ := s.image.Digest()
	size := func() *result {
		t.Helper()
		p, err := newPuller(&request{
			Arch: "amd64", Blobs: filepath.Join(s.dir, "blobs"), Kind: "size", Ref: s.ref, Digest: digest.String(),
		}, &report{encoder: json.NewEncoder(io.Discard)})
		if err != nil {
			t.Fatal(err)
		}
		told, err := p.size(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		return told
	}
	if told := size(); told.Missing != told.Bytes || told.Bytes < 300<<10 || len(s.blobs) != 0 {
		t.Errorf("got %+v after requests for %q", told, s.blobs)
	}
	content := s.layer(t)
	s.cut(t, content[:200<<10])
	if told := size(); told.Missing != s.layers[0].Size-200<<10 {
		t.Errorf("after a cut pull it says %+v", told)
	}
}

func TestACutBlobIsResumedAndStartsAnewWithoutRanges(t *testing.T) {
	for _, ranges := range []bool{true, false} {
		s := serve(t, ranges)
		content := s.layer(t)
		s.cut(t, content[:1000])
		done, err := s.pull(t, math.MaxInt64)
		if err != nil {
			t.Fatal(err)
		}
		if len(s.blobs) != 1 || s.blobs[0] != "bytes=1000-" {
			t.Errorf("requested %q", s.blobs)
		}
		want := int64(len(content))
		if ranges {
			want -= 1000
		}
		if done.Fetched != want {
			t.Errorf("ranges %v: %d bytes came instead of %d", ranges, done.Fetched, want)
		}
		again, err := os.ReadFile(filepath.Join(s.dir, "blobs", s.layers[0].Digest.Hex))
		if err != nil || !bytes.Equal(again, content) {
			t.Errorf("ranges %v: the blob differs (%v)", ranges, err)
		}
	}
}

func TestManifestsMayNotClaimMoreThanTheLimit(t *testing.T) {
	digest := "sha256:" + strings.Repeat("a", 64)
	for text, claim := range map[string]struct {
		sizes []int64
		kind  string
	}{
		"over":     {[]int64{60, 41}, "too-large"},
		"overflow": {[]int64{math.MaxInt64, math.MaxInt64}, "too-large"},
		"negative": {[]int64{-1}, "layout"},
	} {
		var list []descriptor
		for _, size := range claim.sizes {
			list = append(list, descriptor{Digest: digest, Size: size})
		}
		if err := within(list, 100); err == nil || classify(err).Kind != claim.kind {
			t.Errorf("%s: %v", text, err)
		}
	}
	if err := within([]descriptor{{Digest: digest, Size: 60}, {Digest: digest, Size: 40}}, 100); err != nil {
		t.Error(err)
	}
	if err := within([]descriptor{{Digest: "sha256:x"}}, 100); err == nil {
		t.Error("a digest that is not one was taken")
	}
}

func TestSweepRemovesCutDownloadsEarlier(t *testing.T) {
	cache := &blobCache{dir: t.TempDir()}
	past := time.Now().Add(-keepPartFor - time.Hour)
	for _, file := range []string{"a", "a.part"} {
		path := filepath.Join(cache.dir, file)
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, past, past); err != nil {
			t.Fatal(err)
		}
	}
	cache.sweep(time.Now())
	left, _ := os.ReadDir(cache.dir)
	if len(left) != 1 || left[0].Name() != "a" {
		t.Errorf("left %v", left)
	}
}
