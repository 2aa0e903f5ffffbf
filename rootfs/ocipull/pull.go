package main

import (
	"archive/tar"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// parallel is how many blobs of one image come at a time.
const parallel = 3

var manifestTypes = []string{
	string(types.OCIImageIndex), string(types.OCIManifestSchema1),
	string(types.DockerManifestList), string(types.DockerManifestSchema2),
}

// chartTypes are the layers that hold a chart's archive, the second one of old pushes.
var chartTypes = []string{"application/vnd.cncf.helm.chart.content.v1.tar+gzip", "application/tar+gzip"}

// puller brings one reference.
type puller struct {
	asked     *request
	out       *report
	repo      name.Repository
	tag       string
	blobs     *blobCache
	pause     time.Duration
	free      func(dir string) (int64, error)
	fetched   atomic.Int64
	done      atomic.Int64
	total     int64
	told      atomic.Int64 // when progress was last told, unix milliseconds
	mu        sync.Mutex
	endpoints []*endpoint
}

func newPuller(asked *request, out *report) (*puller, error) {
	if asked.Kind == "digest" && asked.Digest != "" {
		return nil, fail("request", "the digest %q is there already", asked.Digest)
	}
	if asked.Kind != "digest" && !digestPattern.MatchString(asked.Digest) {
		return nil, fail("request", "%q is no sha256 digest", asked.Digest)
	}
	text, pinned, _ := strings.Cut(asked.Ref, "@")
	ref, err := name.ParseReference(text, name.WithDefaultTag(""))
	if err != nil {
		return nil, fail("request", "%q is no image reference: %v", asked.Ref, err)
	}
	if pinned != "" && pinned != asked.Digest {
		return nil, fail("request", "the reference %q names another digest than %s", asked.Ref, asked.Digest)
	}
	if asked.Kind == "digest" && ref.Identifier() == "" {
		return nil, fail("request", "the reference %q has no tag", asked.Ref)
	}
	roots, err := withRoots(nil, asked.CAFiles)
	if err != nil {
		return nil, err
	}
	found, err := endpoints(ref.Context(), asked.Registries, roots)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(asked.Blobs, 0o700); err != nil {
		return nil, err
	}
	cache := &blobCache{dir: asked.Blobs}
	cache.sweep(time.Now())
	return &puller{
		asked: asked, out: out, repo: ref.Context(), tag: ref.Identifier(), blobs: cache,
		pause: time.Second / 2, free: freeBytes, endpoints: found,
	}, nil
}

// order gives the endpoints, the one that worked last first.
func (p *puller) order() []*endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.endpoints)
}

func (p *puller) worked(e *endpoint) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := slices.Index(p.endpoints, e)
	p.endpoints = append([]*endpoint{e}, slices.Delete(p.endpoints, at, at+1)...)
}

// count moves the progress, and tells it a few times a second.
func (p *puller) count(bytes int64) {
	done, now := p.done.Add(bytes), time.Now().UnixMilli()
	if before := p.told.Load(); now-before >= 250 && p.told.CompareAndSwap(before, now) {
		p.out.send("progress", map[string]int64{"done": done, "total": p.total})
	}
}

// image writes an OCI archive with the one image for the architecture.
func (p *puller) image(ctx context.Context) (*result, error) {
	content, digest, err := p.choose(ctx, p.asked.Digest, 2)
	if err != nil {
		return nil, err
	}
	manifest, err := readManifest(content)
	if err != nil {
		return nil, err
	}
	if manifest.SchemaVersion != 2 || manifest.Config.Digest == "" {
		return nil, fail("layout", "it is no container image (schema version %d)", manifest.SchemaVersion)
	}
	if err := within([]descriptor{manifest.Config}, configLimit); err != nil {
		return nil, err
	}
	if err := p.prepare(manifest.blobs(), imageLimit); err != nil {
		return nil, err
	}
	if err := p.all(ctx, []descriptor{manifest.Config}); err != nil {
		return nil, err
	}
	if err := p.checkConfig(manifest.Config); err != nil {
		return nil, err
	}
	if err := p.all(ctx, manifest.Layers); err != nil {
		return nil, err
	}
	mediaType := manifest.MediaType
	if mediaType == "" {
		mediaType = string(types.OCIManifestSchema1)
	}
	names := p.names(digest)
	own := descriptor{
		MediaType: mediaType, Digest: digest, Size: int64(len(content)),
		Platform: &platform{OS: "linux", Architecture: p.asked.Arch},
	}
	held := append([]descriptor{own, manifest.Config}, manifest.Layers...)
	if err := p.archive(own, names, held); err != nil {
		return nil, err
	}
	return &result{Manifest: digest, Bytes: p.total, Fetched: p.fetched.Load(), Names: names}, nil
}

// choose follows an index to the manifest for the architecture.
func (p *puller) choose(ctx context.Context, digest string, depth int) ([]byte, string, error) {
	content, err := p.manifest(ctx, digest)
	if err != nil {
		return nil, "", err
	}
	found, err := readManifest(content)
	if err != nil {
		return nil, "", err
	}
	if found.Manifests == nil || found.Config.Digest != "" {
		return content, digest, nil
	}
	if depth == 0 {
		return nil, "", fail("layout", "its index holds an index that holds another")
	}
	best := -1
	var offered []string
	for i, one := range found.Manifests {
		if one.Platform == nil || one.Platform.OS == "unknown" {
			continue
		}
		offered = append(offered, one.Platform.String())
		if one.Platform.OS != "linux" || one.Platform.Architecture != p.asked.Arch {
			continue
		}
		// Every 64-bit ARM is v8; a newer variant may use what an older processor lacks.
		plain := one.Platform.Variant == "" || (p.asked.Arch == "arm64" && one.Platform.Variant == "v8")
		if best < 0 || (plain && found.Manifests[best].Platform.Variant != "") {
			best = i
		}
	}
	if best < 0 {
		return nil, "", fail("platform", "it is made for %s, and the guest is linux/%s", strings.Join(offered, ", "), p.asked.Arch)
	}
	if chosen := found.Manifests[best].Digest; digestPattern.MatchString(chosen) {
		return p.choose(ctx, chosen, depth-1)
	}
	return nil, "", fail("layout", "its index names no sha256 digest")
}

// checkConfig holds the image's own word against the guest's architecture: an index is not always there.
func (p *puller) checkConfig(d descriptor) error {
	content, err := p.blobs.read(d.Digest)
	if err != nil {
		return err
	}
	var config platform
	if err := json.Unmarshal(content, &config); err != nil {
		return fail("layout", "its configuration cannot be read: %v", err)
	}
	if config.OS != "linux" || config.Architecture != p.asked.Arch {
		return fail("platform", "it is made for %s/%s, and the guest is linux/%s", config.OS, config.Architecture, p.asked.Arch)
	}
	return nil
}

// chart copies the chart's archive.
func (p *puller) chart(ctx context.Context) (*result, error) {
	content, err := p.manifest(ctx, p.asked.Digest)
	if err != nil {
		return nil, err
	}
	manifest, err := readManifest(content)
	if err != nil {
		return nil, err
	}
	at := slices.IndexFunc(manifest.Layers, func(d descriptor) bool { return slices.Contains(chartTypes, d.MediaType) })
	if at < 0 {
		return nil, fail("layout", "it is no chart: none of its layers is a chart's archive")
	}
	layer := manifest.Layers[at]
	if err := p.prepare([]descriptor{layer}, chartLimit); err != nil {
		return nil, err
	}
	if err := p.all(ctx, []descriptor{layer}); err != nil {
		return nil, err
	}
	out, err := os.OpenFile(p.asked.Output, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if err := p.pour(out, layer); err != nil {
		return nil, err
	}
	return &result{Manifest: p.asked.Digest, Bytes: p.total, Fetched: p.fetched.Load()}, out.Close()
}

// all brings blobs, a few at a time; the first failure ends the others.
func (p *puller) all(ctx context.Context, list []descriptor) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	slots := make(chan struct{}, parallel)
	var group sync.WaitGroup
	for _, d := range list {
		group.Add(1)
		go func() {
			defer group.Done()
			slots <- struct{}{}
			defer func() { <-slots }()
			if err := p.one(ctx, d); err != nil {
				cancel(err)
			}
		}()
	}
	group.Wait()
	return context.Cause(ctx)
}

// one brings a blob; what is there of it already counts as done.
func (p *puller) one(ctx context.Context, d descriptor) error {
	if ctx.Err() != nil {
		return nil
	}
	before := int64(0)
	if info, err := os.Stat(p.blobs.path(d.Digest) + ".part"); err == nil {
		before = min(info.Size(), d.Size)
		p.count(before)
	}
	if p.blobs.whole(d) {
		p.count(d.Size - before)
		return nil
	}
	return p.blob(ctx, d)
}

// names are what pods may call the image: with its tag, and by the digest that was asked for.
func (p *puller) names(manifest string) []string {
	base := p.repo.RepositoryStr()
	base = hostOf(p.repo.RegistryStr()) + "/" + base
	var names []string
	if p.tag != "" {
		names = append(names, base+":"+p.tag)
	}
	names = append(names, base+"@"+p.asked.Digest)
	if manifest != p.asked.Digest {
		names = append(names, base+"@"+manifest)
	}
	return names
}

// archive writes an OCI layout as one tar: the same image gives the same bytes.
func (p *puller) archive(own descriptor, names []string, held []descriptor) error {
	var entries []descriptor
	for _, one := range names {
		entry := own
		entry.Annotations = map[string]string{"io.containerd.image.name": one}
		entries = append(entries, entry)
	}
	index, err := json.Marshal(struct {
		SchemaVersion int          `json:"schemaVersion"`
		MediaType     string       `json:"mediaType"`
		Manifests     []descriptor `json:"manifests"`
	}{2, string(types.OCIImageIndex), entries})
	if err != nil {
		return err
	}
	out, err := os.OpenFile(p.asked.Output, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	w := tar.NewWriter(out)
	if err := putFile(w, "oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)); err != nil {
		return err
	}
	if err := putFile(w, "index.json", index); err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, d := range held {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		if err := w.WriteHeader(header("blobs/sha256/"+filepath.Base(p.blobs.path(d.Digest)), d.Size)); err != nil {
			return err
		}
		if err := p.pour(w, d); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil {
		return err
	}
	return out.Close()
}

func putFile(w *tar.Writer, path string, content []byte) error {
	if err := w.WriteHeader(header(path, int64(len(content)))); err != nil {
		return err
	}
	_, err := w.Write(content)
	return err
}

func header(path string, size int64) *tar.Header {
	return &tar.Header{Name: path, Mode: 0o644, Size: size, Typeflag: tar.TypeReg, ModTime: time.Unix(0, 0)}
}

// pour copies a blob out of the cache.
func (p *puller) pour(out io.Writer, d descriptor) error {
	file, err := os.Open(p.blobs.path(d.Digest))
	if err != nil {
		return err
	}
	defer file.Close()
	n, err := io.Copy(out, file)
	if err == nil && n != d.Size {
		err = fmt.Errorf("the cached blob %s has %d bytes instead of %d", short(d.Digest), n, d.Size)
	}
	return err
}
