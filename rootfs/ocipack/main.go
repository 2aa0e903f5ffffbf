// Command ocipack puts one layer tar into an OCI image layout, with go-containerregistry, the library
// under crane. crane itself sets an entrypoint only on images of a registry, and there is none here.
// The layout names the image for `ctr images import`. The same inputs give the same bytes.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func main() {
	name := flag.String("name", "", "image name with its tag")
	layer := flag.String("layer", "", "layer tar, taken as it is")
	arch := flag.String("arch", "amd64", "the image's architecture")
	user := flag.String("user", "", "user of the program, empty for root")
	entrypoint := flag.String("entrypoint", "", "program and arguments, separated by spaces")
	output := flag.String("output", "", "folder of the layout, which must not be there yet")
	flag.Parse()
	if err := pack(*name, *layer, *arch, *user, strings.Fields(*entrypoint), *output); err != nil {
		fmt.Fprintln(os.Stderr, "ocipack:", err)
		os.Exit(1)
	}
}

func pack(name, layerPath, arch, user string, entrypoint []string, output string) error {
	content, err := os.ReadFile(layerPath)
	if err != nil {
		return err
	}
	// Not compressed: the root image's file system is, and unpacking twice costs the guest seconds.
	image, err := mutate.Append(
		mutate.MediaType(empty.Image, types.OCIManifestSchema1),
		mutate.Addendum{Layer: static.NewLayer(content, types.OCIUncompressedLayer)},
	)
	if err != nil {
		return err
	}
	image = mutate.ConfigMediaType(image, types.OCIConfigJSON)
	file, err := image.ConfigFile()
	if err != nil {
		return err
	}
	file = file.DeepCopy()
	file.Created = v1.Time{Time: time.Unix(0, 0).UTC()}
	file.Architecture, file.OS, file.Author = arch, "linux", ""
	file.History = nil
	file.Config = v1.Config{
		Entrypoint: entrypoint,
		User:       user,
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		WorkingDir: "/",
	}
	if image, err = mutate.ConfigFile(image, file); err != nil {
		return err
	}
	path, err := layout.Write(output, empty.Index)
	if err != nil {
		return err
	}
	_, tag, _ := strings.Cut(name, ":")
	return path.AppendImage(image,
		layout.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}),
		layout.WithAnnotations(map[string]string{
			"io.containerd.image.name":          name,
			"org.opencontainers.image.ref.name": tag,
		}))
}
