package imageload

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/metadata"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/plugins/content/local"
	"github.com/containerd/containerd/v2/plugins/snapshots/native"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	bolt "go.etcd.io/bbolt"
)

// applier gives a layer's digest instead of unpacking it.
type applier struct {
	store content.Provider
	seen  chan digest.Digest // when set, gets each layer
	fail  error
}

func (a *applier) Apply(ctx context.Context, desc ocispec.Descriptor, _ []mount.Mount, _ ...diff.ApplyOpt) (ocispec.Descriptor, error) {
	if a.fail != nil {
		return ocispec.Descriptor{}, a.fail
	}
	text, err := content.ReadBlob(ctx, a.store, desc)
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	if a.seen != nil {
		a.seen <- desc.Digest
	}
	return descriptor(ocispec.MediaTypeImageLayer, text), nil
}

// node is a containerd without a daemon.
type node struct {
	Node
	ctx     context.Context
	db      *metadata.DB
	applier *applier
}

func newNode(t *testing.T) *node {
	t.Helper()
	dir := t.TempDir()
	store, err := local.NewStore(filepath.Join(dir, "content"))
	if err != nil {
		t.Fatal(err)
	}
	snapshotter, err := native.NewSnapshotter(filepath.Join(dir, "snapshots"))
	if err != nil {
		t.Fatal(err)
	}
	db, err := bolt.Open(filepath.Join(dir, "meta.db"), 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	mdb := metadata.NewDB(db, store, map[string]snapshots.Snapshotter{"native": snapshotter})
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), "k8s.io"), time.Minute)
	t.Cleanup(cancel)
	if err := mdb.Init(ctx); err != nil {
		t.Fatal(err)
	}
	n := &node{ctx: ctx, db: mdb, applier: &applier{store: mdb.ContentStore()}}
	n.Node = Node{
		Content: mdb.ContentStore(), Images: metadata.NewImageStore(mdb), Leases: metadata.NewLeaseManager(mdb),
		Snapshots: mdb.Snapshotter("native"), Snapshotter: "native", Applier: n.applier,
	}
	return n
}

func (n *node) load(files []byte) ([]string, error) {
	return Load(n.ctx, n.Node, bytes.NewReader(files))
}

func (n *node) names(t *testing.T) []string {
	t.Helper()
	all, err := n.Images.List(n.ctx)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, one := range all {
		out = append(out, one.Name)
	}
	slices.Sort(out)
	return out
}

// blobs lists the store after a collection.
func (n *node) blobs(t *testing.T) []digest.Digest {
	t.Helper()
	if _, err := n.db.GarbageCollect(n.ctx); err != nil {
		t.Fatal(err)
	}
	var out []digest.Digest
	if err := n.Content.Walk(n.ctx, func(info content.Info) error { out = append(out, info.Digest); return nil }); err != nil {
		t.Fatal(err)
	}
	return out
}

func (n *node) snapshots(t *testing.T) int {
	t.Helper()
	count := 0
	if err := n.Snapshots.Walk(n.ctx, func(context.Context, snapshots.Info) error { count++; return nil }); err != nil {
		t.Fatal(err)
	}
	return count
}

func TestLoadGivesAnImageItsNameAndTheReferenceByID(t *testing.T) {
	for form, pack := range map[string]func(image) []byte{
		"OCI": func(i image) []byte { return pack(t, i.oci(t, named("docker.io/library/a:1"))) },
		"OCI, backwards": func(i image) []byte {
			files := i.oci(t, named("docker.io/library/a:1"))
			slices.Reverse(files)
			return pack(t, files)
		},
		"docker": func(i image) []byte { return pack(t, i.docker(t, "a:1")) },
	} {
		n, one := newNode(t), newImage("lower", "upper")
		got, err := n.load(pack(one))
		if err != nil || !slices.Equal(got, []string{"docker.io/library/a:1"}) {
			t.Errorf("%s: got %v, %v", form, got, err)
			continue
		}
		id := digest.FromBytes(one.config(t)).String()
		if want := []string{"docker.io/library/a:1", id}; !slices.Equal(n.names(t), want) {
			t.Errorf("%s: got %v, want %v", form, n.names(t), want)
		}
		for _, name := range n.names(t) {
			found, err := n.Images.Get(n.ctx, name)
			if err != nil || found.Labels["io.cri-containerd.image"] != "managed" || found.Labels["io.cri-containerd.pinned"] != "pinned" {
				t.Errorf("%s: %s has %v, %v", form, name, found.Labels, err)
			}
		}
		if blobs := n.blobs(t); len(blobs) != 4 || n.snapshots(t) != 2 {
			t.Errorf("%s: %d blobs and %d snapshots are kept", form, len(blobs), n.snapshots(t))
		}
	}
}

func TestLoadTakesBlobsThatTheNodeHas(t *testing.T) {
	n := newNode(t)
	if _, err := n.load(pack(t, newImage("shared", "one").oci(t, named("r.example/a:1")))); err != nil {
		t.Fatal(err)
	}
	files := slices.DeleteFunc(newImage("shared", "two").oci(t, named("r.example/b:1")), func(f file) bool { return string(f.data) == "shared" })
	if _, err := n.load(pack(t, files)); err != nil {
		t.Fatal(err)
	}
	if err := n.Images.Delete(n.ctx, "r.example/a:1"); err != nil {
		t.Fatal(err)
	}
	n.blobs(t)
	if _, err := check(n.ctx, n.Content, target(t, n, "r.example/b:1")); err != nil {
		t.Errorf("the shared layer went with the other image: %v", err)
	}
	var missing *MissingBlobError
	lacking := slices.DeleteFunc(newImage("nowhere").oci(t, named("r.example/c:1")), func(f file) bool { return string(f.data) == "nowhere" })
	if _, err := n.load(pack(t, lacking)); !errors.As(err, &missing) || missing.Digest != digest.FromString("nowhere") {
		t.Errorf("got %v", err)
	}
}

func target(t *testing.T, n *node, name string) ocispec.Descriptor {
	t.Helper()
	found, err := n.Images.Get(n.ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	return found.Target
}

func TestLoadUnpacksALayerBeforeTheNextOneComes(t *testing.T) {
	n, one := newNode(t), newImage("lower", "upper")
	n.applier.seen = make(chan digest.Digest, 2)
	files := one.oci(t, named("r.example/a:1"))
	data := pack(t, files)
	last := bytes.LastIndex(data, []byte("upper"))
	reader, writer := io.Pipe()
	go func() {
		_, _ = writer.Write(data[:last])
		select {
		case <-n.applier.seen:
			_, err := writer.Write(data[last:])
			_ = writer.CloseWithError(err)
		case <-n.ctx.Done():
			_ = writer.CloseWithError(errors.New("no layer was unpacked while another was to come"))
		}
	}()
	if _, err := Load(n.ctx, n.Node, reader); err != nil {
		t.Error(err)
	}
}

func TestALoadThatWasCutIsGoneOnWith(t *testing.T) {
	n, one := newNode(t), newImage("lower", strings.Repeat("upper", 2000))
	data := pack(t, one.oci(t, named("r.example/a:1")))
	cut := bytes.LastIndex(data, []byte("upper"))
	if _, err := n.load(data[:cut]); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("got %v", err)
	}
	if names := n.names(t); len(names) != 0 {
		t.Errorf("after a cut load there is %v", names)
	}
	if !slices.Contains(n.blobs(t), digest.FromString("lower")) {
		t.Error("the layer that came whole is gone")
	}
	if open, err := n.Content.ListStatuses(n.ctx); err != nil || len(open) != 0 {
		t.Errorf("half a layer is kept: %v, %v", open, err)
	}
	rest := slices.DeleteFunc(one.oci(t, named("r.example/a:1")), func(f file) bool { return string(f.data) == "lower" })
	if _, err := n.load(pack(t, rest)); err != nil {
		t.Error(err)
	}
}

func TestAFailedLoadLeavesNothing(t *testing.T) {
	foreign := newImage("layer")
	foreign.platform = ocispec.Platform{OS: "linux", Architecture: "s390x"}
	wrong := newImage("layer")
	wrong.diffIDs[0] = digest.FromString("another")
	for name, one := range map[string]struct {
		files []file
		fail  error
		want  string
	}{
		"another platform": {foreign.oci(t, named("r.example/a:1")), nil, "no match for platform"},
		"a wrong layer":    {wrong.oci(t, named("r.example/a:1")), nil, "wrong diff id"},
		"a full disk":      {newImage("layer").oci(t, named("r.example/a:1")), errors.New("write: no space left on device"), "no space left on device"},
		"no name":          {newImage("layer").oci(t, map[string]string{"org.opencontainers.image.ref.name": "latest"}), nil, ErrNoName.Error()},
		"no image":         {[]file{{"notes.txt", []byte("text")}}, nil, "unrecognized image format"},
	} {
		n := newNode(t)
		if _, err := n.load(pack(t, newImage("before").oci(t, named("r.example/before:1")))); err != nil {
			t.Fatal(err)
		}
		names, blobs := n.names(t), len(n.blobs(t))
		n.applier.fail = one.fail
		if _, err := n.load(pack(t, one.files)); err == nil || !strings.Contains(err.Error(), one.want) {
			t.Errorf("%s: got %v", name, err)
		}
		if after := n.names(t); !slices.Equal(after, names) {
			t.Errorf("%s: it left %v", name, after)
		}
		if left := n.blobs(t); len(left) != blobs || n.snapshots(t) != 1 {
			t.Errorf("%s: it left %d blobs and %d snapshots", name, len(left)-blobs, n.snapshots(t)-1)
		}
	}
}

func TestAnImageOfTheSameNameStaysUntilTheNewOneIsWhole(t *testing.T) {
	n := newNode(t)
	if _, err := n.load(pack(t, newImage("old").oci(t, named("r.example/a:1")))); err != nil {
		t.Fatal(err)
	}
	old := target(t, n, "r.example/a:1").Digest
	data := pack(t, newImage("new").oci(t, named("r.example/a:1")))
	if _, err := n.load(data[:bytes.LastIndex(data, []byte("new"))]); err == nil {
		t.Fatal("a cut archive was loaded")
	}
	if now := target(t, n, "r.example/a:1").Digest; now != old {
		t.Error("a cut load took the name")
	}
	if _, err := n.load(data); err != nil {
		t.Fatal(err)
	}
	if now := target(t, n, "r.example/a:1").Digest; now == old {
		t.Error("the new image does not have the name")
	}
}

func TestCompleteAddsTheReferenceByIDOnce(t *testing.T) {
	n, one := newNode(t), newImage("layer")
	if _, err := n.load(pack(t, one.oci(t, named("r.example/a:1"), named("r.example/a:2")))); err != nil {
		t.Fatal(err)
	}
	id := digest.FromBytes(one.config(t)).String()
	if err := n.Images.Delete(n.ctx, id); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		all, err := n.Images.List(n.ctx)
		if err == nil {
			err = Complete(n.ctx, n.Images, n.Content, all)
		}
		if err != nil {
			t.Fatal(err)
		}
		if want := []string{"r.example/a:1", "r.example/a:2", id}; !slices.Equal(n.names(t), want) {
			t.Errorf("got %v, want %v", n.names(t), want)
		}
	}
	if found, _ := n.Images.Get(n.ctx, id); found.Labels["io.cri-containerd.pinned"] != "pinned" {
		t.Errorf("the reference by ID has %v", found.Labels)
	}
	broken := images.Image{Name: "r.example/b:1", Labels: labels, Target: descriptor(ocispec.MediaTypeImageManifest, []byte("gone"))}
	if err := Complete(n.ctx, n.Images, n.Content, []images.Image{broken}); err == nil {
		t.Error("an image without its manifest was completed")
	}
}

func TestNameOfAnImage(t *testing.T) {
	for want, annotations := range map[string]map[string]string{
		"docker.io/library/a:1": {"io.containerd.image.name": "docker.io/library/a:1", "org.opencontainers.image.ref.name": "1"},
		"docker.io/library/b:1": {"io.containerd.image.name": "b:1"},
		"docker.io/my/a:2":      {"org.opencontainers.image.ref.name": "my/a:2"},
	} {
		if got := nameOf(annotations); got != want {
			t.Errorf("%v: got %q", annotations, got)
		}
	}
	hex := strings.Repeat("a", 64)
	for said, want := range map[string]string{"A b": "", hex: "", "sha256:" + hex: "docker.io/library/sha256:" + hex} {
		if got := nameOf(map[string]string{"io.containerd.image.name": said}); got != want {
			t.Errorf("%q: got %q", said, got)
		}
	}
	if got := nameOf(map[string]string{"org.opencontainers.image.ref.name": "latest"}); got != "" {
		t.Errorf("a tag alone: got %q", got)
	}
}

func TestWatchSpaceEndsALoadBeforeTheDiskIsFull(t *testing.T) {
	dir := t.TempDir()
	ctx, stop := watchSpace(context.Background(), dir)
	defer stop()
	if err := ctx.Err(); err != nil {
		t.Error(err)
	}
	if err := spaceFault(63<<20, 1<<30); err == nil || !strings.Contains(err.Error(), "no space left on device") {
		t.Errorf("got %v", err)
	}
	for _, free := range []uint64{64 << 20, 1 << 30} {
		if err := spaceFault(free, 1<<30); err != nil {
			t.Error(fmt.Errorf("%d MiB free of 1024: %w", free>>20, err))
		}
	}
	if spaceFault(511<<20, 1<<40) == nil || spaceFault(512<<20, 1<<40) != nil {
		t.Error("of a large disk, other than 512 MiB are kept")
	}
}
