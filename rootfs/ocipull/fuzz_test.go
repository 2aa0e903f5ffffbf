package main

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
)

const fuzzRef = "registry.example/app:1"

// fuzzPuller has a cache of these blobs and no registry.
func fuzzPuller(t *testing.T, kind, digest string, blobs ...[]byte) *puller {
	t.Helper()
	dir := t.TempDir()
	cache := &blobCache{dir: filepath.Join(dir, "blobs")}
	if err := os.Mkdir(cache.dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, blob := range blobs {
		if err := cache.write(digestOf(blob), blob); err != nil {
			t.Fatal(err)
		}
	}
	ref, err := name.ParseReference(fuzzRef)
	if err != nil {
		t.Fatal(err)
	}
	return &puller{
		asked: &request{
			Arch: "amd64", Blobs: cache.dir, Kind: kind, Ref: fuzzRef, Digest: digest, Output: filepath.Join(dir, "out"),
		},
		out: &report{encoder: json.NewEncoder(io.Discard)}, repo: ref.Context(), tag: ref.Identifier(), blobs: cache,
		free: func(string) (int64, error) { return math.MaxInt64, nil },
	}
}

// link puts digests where a mutated text says $layer and so on, which no mutation could find.
func link(text []byte, names ...string) []byte {
	return []byte(strings.NewReplacer(names...).Replace(string(text)))
}

// FuzzImage: whatever index, manifest and configuration say, an image becomes an archive of exactly its blobs, or there is
// an error that says of what kind it is.
func FuzzImage(f *testing.F) {
	index := `{"schemaVersion":2,"manifests":[{"digest":"$manifest","platform":{"os":"linux","architecture":"amd64"}},` +
		`{"digest":"x","platform":{"os":"unknown","architecture":"unknown"}}]}`
	manifest := `{"schemaVersion":2,"config":{"digest":"$config","size":38},"layers":[{"digest":"$layer","size":5}]}`
	config := `{"os":"linux","architecture":"amd64"} `
	layer := []byte("layer")
	f.Add([]byte(index), []byte(manifest), []byte(config), layer)
	f.Add([]byte(manifest), []byte(manifest), []byte(config), layer)
	f.Add([]byte(index), []byte(strings.Replace(manifest, `"size":5}`, `"size":5},{"digest":"$layer","size":-1}`, 1)), []byte(config), layer)
	f.Add([]byte(index), []byte(strings.Replace(manifest, `"size":5}`, `"size":5},{"digest":"$layer","size":5}`, 1)), []byte(config), layer)
	f.Add([]byte(index), []byte(strings.Replace(manifest, `"size":5`, `"size":9223372036854775807`, 1)), []byte(config), layer)
	f.Add([]byte(index), []byte(index), []byte("null"), layer)
	f.Add([]byte(`{"manifests":[{"platform":null}]}`), []byte("[]"), []byte("1"), layer)
	f.Fuzz(func(t *testing.T, index, manifest, config, layer []byte) {
		manifest = link(manifest, "$config", digestOf(config), "$layer", digestOf(layer))
		index = link(index, "$manifest", digestOf(manifest), "$config", digestOf(config), "$layer", digestOf(layer))
		p := fuzzPuller(t, "image", digestOf(index), index, manifest, config, layer)
		done, err := p.image(context.Background())
		if err != nil {
			checkKind(t, err)
			return
		}
		out, err := os.ReadFile(p.asked.Output)
		if err != nil {
			t.Fatal(err)
		}
		checkArchive(t, out, done)
	})
}

// FuzzChart: a chart is one of the manifest's blobs, or an error of a known kind.
func FuzzChart(f *testing.F) {
	f.Add([]byte(`{"schemaVersion":2,"layers":[{"mediaType":"application/tar+gzip","digest":"$layer","size":5}]}`), []byte("chart"))
	f.Add([]byte(`{"layers":[{"mediaType":"application/tar+gzip","digest":"$layer","size":-5}]}`), []byte("chart"))
	f.Add([]byte(`{"layers":[{"mediaType":"application/tar+gzip","digest":"sha256:","size":0}]}`), []byte(""))
	f.Fuzz(func(t *testing.T, manifest, layer []byte) {
		manifest = link(manifest, "$layer", digestOf(layer))
		p := fuzzPuller(t, "chart", digestOf(manifest), manifest, layer)
		if _, err := p.chart(context.Background()); err != nil {
			checkKind(t, err)
			return
		}
		out, err := os.ReadFile(p.asked.Output)
		if err != nil || !slices.ContainsFunc([][]byte{manifest, layer}, func(one []byte) bool { return bytes.Equal(one, out) }) {
			t.Fatalf("the chart is %q (%v)", out, err)
		}
	})
}

// FuzzEndpoints: what registries.yaml says leads to http or https addresses, or is refused by name.
func FuzzEndpoints(f *testing.F) {
	f.Add("docker.io/library/app:1", []byte(`{"mirrors":{"docker.io":{"endpoint":["https://a.example/x","b:5000"],"rewrite":{"^(.*)$":"p/$1"}}}}`))
	f.Add("localhost:5000/app", []byte(`{"mirrors":{"*":{"endpoint":["localhost:5001","http://[::1]:80/v2/"]}},"configs":{"*":{"auth":{"username":"u"}}}}`))
	f.Add("registry.example/app", []byte(`{"mirrors":{"registry.example":{"endpoint":["ftp://x","//","","%"]}}}`))
	f.Add("registry.example/app", []byte(`{"mirrors":{"registry.example":{"endpoint":["x"],"rewrite":{"(":""}}}}`))
	f.Setenv("DOCKER_CONFIG", f.TempDir())
	f.Fuzz(func(t *testing.T, reference string, text []byte) {
		ref, err := name.ParseReference(reference)
		if err != nil {
			t.Skip()
		}
		var settings registries
		if json.Unmarshal(text, &settings) != nil {
			t.Skip()
		}
		for _, one := range settings.Configs {
			one.TLS = nil // names files
		}
		found, err := endpoints(ref.Context(), settings, nil)
		if err != nil {
			checkKind(t, err)
			return
		}
		if len(found) == 0 {
			t.Fatal("nowhere to look")
		}
		for _, e := range found {
			if !slices.Contains([]string{"http", "https"}, e.scheme) || e.host == "" || !strings.HasPrefix(e.path, "/") {
				t.Fatalf("the endpoint %s, path %q", e, e.path)
			}
		}
	})
}

// checkKind: the caller switches on it.
func checkKind(t *testing.T, err error) {
	t.Helper()
	var known *failure
	if !errors.As(err, &known) {
		known = classify(err)
	}
	// No registry has an answer here: that is an error without a kind of its own.
	if known.Kind == "other" || known.Kind == "" && known.Why != "" {
		t.Fatalf("an error of no kind: %v", err)
	}
}

// checkArchive: the archive has the blobs of its manifest, once each, whole and under their names.
func checkArchive(t *testing.T, out []byte, done *result) {
	t.Helper()
	files := map[string][]byte{}
	for r := tar.NewReader(bytes.NewReader(out)); ; {
		header, err := r.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[header.Name] != nil {
			t.Fatalf("%s comes twice", header.Name)
		}
		if files[header.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
		if sum, found := strings.CutPrefix(header.Name, "blobs/sha256/"); found && digestOf(files[header.Name]) != "sha256:"+sum {
			t.Fatalf("%s holds something else", header.Name)
		}
	}
	var index document
	if err := json.Unmarshal(files["index.json"], &index); err != nil || len(index.Manifests) != len(done.Names) {
		t.Fatalf("the index is %q (%v)", files["index.json"], err)
	}
	for _, one := range index.Manifests {
		manifest, err := readManifest(files["blobs/sha256/"+strings.TrimPrefix(one.Digest, "sha256:")])
		if err != nil || one.Digest != done.Manifest {
			t.Fatalf("the manifest %s: %v", one.Digest, err)
		}
		for _, blob := range manifest.blobs() {
			if _, ok := files["blobs/sha256/"+strings.TrimPrefix(blob.Digest, "sha256:")]; !ok {
				t.Fatalf("the blob %s is not there", blob.Digest)
			}
		}
	}
}
