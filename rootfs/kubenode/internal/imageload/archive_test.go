package imageload

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// file is one member of an archive.
type file struct {
	name string
	data []byte
}

// image is what an archive is made of.
type image struct {
	platform ocispec.Platform
	layers   [][]byte
	diffIDs  []digest.Digest // of the layers, unless a test says otherwise
}

func newImage(layers ...string) image {
	one := image{platform: platforms.DefaultSpec()}
	for _, text := range layers {
		one.layers = append(one.layers, []byte(text))
		one.diffIDs = append(one.diffIDs, digest.FromString(text))
	}
	return one
}

func toJSON(t *testing.T, value any) []byte {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func (i image) config(t *testing.T) []byte {
	return toJSON(t, ocispec.Image{Platform: i.platform, RootFS: ocispec.RootFS{Type: "layers", DiffIDs: i.diffIDs}})
}

// oci gives the members of an OCI archive: layout and index first, then manifest, configuration, layers.
func (i image) oci(t *testing.T, annotations ...map[string]string) []file {
	config := i.config(t)
	manifest := ocispec.Manifest{MediaType: ocispec.MediaTypeImageManifest, Config: descriptor(ocispec.MediaTypeImageConfig, config)}
	manifest.SchemaVersion = 2
	for _, layer := range i.layers {
		manifest.Layers = append(manifest.Layers, descriptor(ocispec.MediaTypeImageLayer, layer))
	}
	text := toJSON(t, manifest)
	index := ocispec.Index{MediaType: ocispec.MediaTypeImageIndex}
	index.SchemaVersion = 2
	for _, one := range annotations {
		entry := descriptor(ocispec.MediaTypeImageManifest, text)
		entry.Annotations = one
		index.Manifests = append(index.Manifests, entry)
	}
	files := []file{{"oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`)}, {"index.json", toJSON(t, index)}, blob(text), blob(config)}
	for _, layer := range i.layers {
		files = append(files, blob(layer))
	}
	return files
}

// docker gives the members of an archive as older `docker save` wrote it.
func (i image) docker(t *testing.T, tag string) []file {
	files := []file{{"config.json", i.config(t)}}
	var names []string
	for at, layer := range i.layers {
		names = append(names, fmt.Sprintf("%d/layer.tar", at))
		files = append(files, file{names[at], layer})
	}
	return append(files, file{"manifest.json", toJSON(t, []map[string]any{{"Config": "config.json", "RepoTags": []string{tag}, "Layers": names}})})
}

func descriptor(mediaType string, data []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(data), Size: int64(len(data))}
}

func blob(data []byte) file {
	return file{"blobs/sha256/" + digest.FromBytes(data).Encoded(), data}
}

func named(name string) map[string]string {
	return map[string]string{"io.containerd.image.name": name}
}

func pack(t *testing.T, files []file) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, one := range files {
		if err := w.WriteHeader(&tar.Header{Name: one.name, Mode: 0o644, Size: int64(len(one.data)), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(one.data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}
