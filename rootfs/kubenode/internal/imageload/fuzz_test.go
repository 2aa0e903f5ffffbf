package imageload

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/distribution/reference"
	"github.com/opencontainers/go-digest"
)

// FuzzNameOf: a name is one that pods can say, or none.
func FuzzNameOf(f *testing.F) {
	f.Add("docker.io/library/a:1", "1")
	f.Add("", "my/a:2")
	f.Add("a", "latest")
	f.Add("sha256:"+strings.Repeat("a", 64), "@")
	f.Add("A b\n", "a:1@sha256:"+strings.Repeat("a", 64))
	f.Fuzz(func(t *testing.T, full, short string) {
		name := nameOf(map[string]string{"io.containerd.image.name": full, "org.opencontainers.image.ref.name": short})
		if name == "" {
			return
		}
		parsed, err := reference.ParseDockerRef(name)
		if err != nil || parsed.String() != name || isID(name) {
			t.Fatalf("%q and %q are named %q (%v)", full, short, name, err)
		}
	})
}

// FuzzLoad: whatever index, manifest and configuration say, a load ends, and its images have names and are whole or
// nothing has a name and no half blob stays.
func FuzzLoad(f *testing.F) {
	index := `{"schemaVersion":2,"manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"$manifest","size":$size,` +
		`"annotations":{"io.containerd.image.name":"docker.io/library/a:1"}}]}`
	manifest := `{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json",` +
		`"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"$config","size":2},` +
		`"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"$layer","size":5}]}`
	config := `{"rootfs":{"type":"layers","diff_ids":["$layer"]}}`
	f.Add(index, manifest, config, []byte("layer"))
	f.Add(strings.Replace(index, "$size", "-1", 1), manifest, config, []byte("layer"))
	f.Add(strings.Replace(index, "image.manifest", "image.index", 1), index, config, []byte("layer"))
	f.Add(index, strings.Replace(manifest, `"$layer"`, `"sha256:"`, 1), "null", []byte(""))
	f.Add(`{"manifests":[{"digest":"../../x"}]}`, "[]", "", []byte("layer"))
	f.Fuzz(func(t *testing.T, index, manifest, config string, layer []byte) {
		link := func(text string, pairs ...string) []byte { return []byte(strings.NewReplacer(pairs...).Replace(text)) }
		settings := link(config, "$layer", digest.FromBytes(layer).String())
		middle := link(manifest, "$config", digest.FromBytes(settings).String(), `"size":2}`, `"size":`+length(settings)+"}",
			"$layer", digest.FromBytes(layer).String(), `"size":5}`, `"size":`+length(layer)+"}")
		top := link(index, "$manifest", digest.FromBytes(middle).String(), "$size", length(middle))
		n := newNode(t)
		names, err := n.load(pack(t, []file{
			{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", top}, blob(middle), blob(settings), blob(layer),
		}))
		if open, listed := n.Content.ListStatuses(n.ctx); listed != nil || len(open) != 0 {
			t.Fatalf("half blobs are kept: %v, %v", open, listed)
		}
		if n.ctx.Err() != nil {
			t.Fatal("the load had to be ended")
		}
		if err != nil {
			if left := n.names(t); len(left) != 0 {
				t.Fatalf("after %v there is %v", err, left)
			}
			return
		}
		for _, name := range names {
			if _, err := check(n.ctx, n.Content, target(t, n, name)); err != nil || !slices.Contains(n.names(t), name) {
				t.Fatalf("%s is not whole: %v", name, err)
			}
		}
		if len(names) == 0 {
			t.Fatal("an archive without a name was loaded")
		}
	})
}

func length(data []byte) string { return strconv.Itoa(len(data)) }
