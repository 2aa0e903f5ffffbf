package imageload

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"
)

// labels keep kubelet's and containerd's garbage collection away, and say that the image is complete for CRI: where
// the first one is set, CRI does not make the reference by ID that image volumes are mounted by.
var labels = map[string]string{
	"io.cri-containerd.image":  "managed",
	"io.cri-containerd.pinned": "pinned",
}

// ErrNoName is of an archive with images that no pod could ask for.
var ErrNoName = errors.New("it names no image")

// namedImages gives the images of an index by the names that pods say.
func namedImages(ctx context.Context, store content.Provider, index ocispec.Descriptor) (map[string]ocispec.Descriptor, error) {
	text, err := content.ReadBlob(ctx, store, index)
	if err != nil {
		return nil, err
	}
	var parsed ocispec.Index
	if err := json.Unmarshal(text, &parsed); err != nil {
		return nil, err
	}
	named := map[string]ocispec.Descriptor{}
	for _, manifest := range parsed.Manifests {
		if name := nameOf(manifest.Annotations); name != "" {
			named[name] = ocispec.Descriptor{MediaType: manifest.MediaType, Digest: manifest.Digest, Size: manifest.Size, Platform: manifest.Platform}
		}
	}
	if len(named) == 0 {
		return nil, ErrNoName
	}
	return named, nil
}

// nameOf is an image's full name, "" for one that pods could not say. The annotation of OCI may be a tag alone, which
// names nothing.
func nameOf(annotations map[string]string) string {
	name := annotations[images.AnnotationImageName]
	if name == "" {
		name = annotations[ocispec.AnnotationRefName]
		if !strings.ContainsAny(name, "/:@") {
			return ""
		}
	}
	parsed, err := reference.ParseDockerRef(name)
	if err != nil {
		return ""
	}
	return parsed.String()
}

// publish gives whole images their names. Before, everything of them is on the disk: a name outlives a power cut.
func publish(ctx context.Context, node Node, named map[string]ocispec.Descriptor) ([]string, error) {
	ids := map[string]string{}
	for name, target := range named {
		id, err := check(ctx, node.Content, target)
		if err != nil {
			return nil, err
		}
		ids[name] = id
	}
	if err := syncRoot(node.Root); err != nil {
		return nil, err
	}
	names := slices.Sorted(maps.Keys(named))
	for _, name := range names {
		// The ID first: a pod that finds the name can mount it.
		for _, one := range []string{ids[name], name} {
			if err := put(ctx, node.Images, images.Image{Name: one, Target: named[name], Labels: labels}); err != nil {
				return nil, err
			}
		}
	}
	return names, nil
}

func put(ctx context.Context, store images.Store, image images.Image) error {
	_, err := store.Update(ctx, image, "target", "labels")
	if errdefs.IsNotFound(err) {
		_, err = store.Create(ctx, image)
	}
	return err
}

// Complete adds the reference by ID to images that lack it: an earlier version of ours did not write it.
func Complete(ctx context.Context, store images.Store, provider content.Provider, all []images.Image) error {
	byID := map[string]bool{}
	for _, image := range all {
		if isID(image.Name) {
			byID[image.Target.Digest.String()] = true
		}
	}
	var failed error
	for _, image := range all {
		target := image.Target.Digest.String()
		if isID(image.Name) || image.Labels["io.cri-containerd.image"] != "managed" || byID[target] {
			continue
		}
		config, err := images.Config(ctx, provider, image.Target, platforms.Default())
		if err == nil {
			byID[target] = true
			err = put(ctx, store, images.Image{Name: config.Digest.String(), Target: image.Target, Labels: image.Labels})
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

func isID(name string) bool { return strings.HasPrefix(name, "sha256:") }

// syncRoot writes what was unpacked to the disk, once for all of it.
func syncRoot(root string) error {
	if root == "" {
		return nil
	}
	dir, err := os.Open(root)
	if err != nil {
		return err
	}
	defer dir.Close()
	return unix.Syncfs(int(dir.Fd()))
}
