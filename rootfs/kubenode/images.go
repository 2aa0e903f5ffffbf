package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	containerdclient "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/archive/compression"
	"github.com/containerd/containerd/v2/pkg/namespaces"

	"gateway.local/kubenode/internal/imageload"
	"gateway.local/kubenode/internal/imagerecord"
	"gateway.local/kubenode/internal/layout"
	"gateway.local/kubenode/internal/pki"
)

// connectContainerd waits until containerd serves.
func connectContainerd(ctx context.Context) (*containerdclient.Client, error) {
	for {
		if _, err := os.Stat(layout.ContainerdSocket); err == nil {
			client, err := containerdclient.New(layout.ContainerdSocket, containerdclient.WithTimeout(5*time.Second))
			if err == nil {
				if serving, err := client.IsServing(ctx); err == nil && serving {
					return client, nil
				}
				client.Close()
			}
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return nil, err
		}
	}
}

// importImages brings the archives of agent/images into containerd; those that are there already cost one stat each.
// A broken archive is logged and does not keep the others or the cluster back.
func importImages(ctx context.Context, l layout.Layout, snapshotter string) error {
	archives, err := imagerecord.Archives(l.Images())
	if err != nil {
		return err
	}
	client, err := connectContainerd(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx = namespaces.WithNamespace(ctx, "k8s.io")
	images, err := client.ImageService().List(ctx)
	if err != nil {
		return err
	}
	if err := imageload.Complete(ctx, client.ImageService(), client.ContentStore(), images); err != nil {
		logf("cannot complete images of an earlier version for image volumes: %v", err)
	}
	present := map[string]bool{}
	for _, image := range images {
		present[image.Name] = true
	}
	node := nodeOf(client, l, snapshotter)
	before, record := imagerecord.Load(l.ImageRecord()), imagerecord.Record{}
	changed := false
	for _, archive := range archives {
		entry, err := imagerecord.Describe(archive)
		if err != nil {
			logf("cannot import the image archive %s: %v", archive, err)
			continue
		}
		if before.Holds(archive, entry, present) {
			record[archive] = before[archive]
			continue
		}
		began := time.Now()
		entry.Images, err = importArchive(ctx, node, entry.Target)
		if err != nil {
			logf("cannot import the image archive %s: %v", archive, err)
			continue
		}
		logf("imported %v from %s in %s", entry.Images, filepath.Base(archive), time.Since(began).Round(time.Millisecond))
		record[archive], changed = entry, true
	}
	if !changed && len(record) == len(before) {
		return nil
	}
	data, err := record.Encode()
	if err != nil {
		return err
	}
	return pki.WriteFile(l.ImageRecord(), data, 0o600)
}

func importArchive(ctx context.Context, node imageload.Node, path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	stream, err := compression.DecompressStream(file)
	if err != nil {
		return nil, err
	}
	defer stream.Close()
	return imageload.Load(ctx, node, stream)
}

// nodeOf is what images are loaded into.
func nodeOf(client *containerdclient.Client, l layout.Layout, snapshotter string) imageload.Node {
	return imageload.Node{
		Content:     client.ContentStore(),
		Images:      client.ImageService(),
		Leases:      client.LeasesService(),
		Snapshots:   client.SnapshotService(snapshotter),
		Snapshotter: snapshotter,
		Applier:     client.DiffService(),
		Root:        l.Agent("containerd"),
	}
}
