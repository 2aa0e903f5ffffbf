package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	containerdclient "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/spf13/pflag"

	"gateway.local/kubenode/internal/imageload"
	"gateway.local/kubenode/internal/layout"
)

const imageHelp = `Usage:
  k3s image load [FLAGS] <ARCHIVE   load an OCI or docker archive, pinned; blobs that the node has may be left out of it
  k3s image blobs                   list the blobs that the node has
`

// runImage is what the host loads images with.
func runImage(argv []string) int {
	l := layout.Layout{Root: layout.DefaultDataDir}
	flags := pflag.NewFlagSet("image", pflag.ContinueOnError)
	flags.StringVar(&l.Root, "data-dir", l.Root, "the server's data directory")
	snapshotter := flags.String("snapshotter", "overlayfs", "the server's snapshotter")
	flags.Usage = func() { fmt.Fprint(os.Stderr, imageHelp, flags.FlagUsages()) }
	if err := flags.Parse(argv); err != nil {
		return 2
	}
	tools := map[string]func(context.Context, *containerdclient.Client) error{
		"load": func(ctx context.Context, client *containerdclient.Client) error {
			names, err := imageload.Load(ctx, nodeOf(client, l, *snapshotter), os.Stdin)
			for _, name := range names {
				fmt.Println(name)
			}
			return err
		},
		"blobs": printBlobs,
	}
	tool := tools[flags.Arg(0)]
	if tool == nil || flags.NArg() > 1 {
		flags.Usage()
		return 2
	}
	if err := withContainerd(tool); err != nil {
		fmt.Fprintf(os.Stderr, "k3s image %s: %v\n", flags.Arg(0), err)
		return 1
	}
	return 0
}

func withContainerd(use func(context.Context, *containerdclient.Client) error) error {
	// A load that is ended takes away what it had written of a blob.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGHUP, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	client, err := containerdclient.New(layout.ContainerdSocket)
	if err != nil {
		return err
	}
	defer client.Close()
	return use(namespaces.WithNamespace(ctx, "k8s.io"), client)
}

func printBlobs(ctx context.Context, client *containerdclient.Client) error {
	return client.ContentStore().Walk(ctx, func(info content.Info) error {
		fmt.Println(info.Digest)
		return nil
	})
}
