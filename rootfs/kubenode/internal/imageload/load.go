// Package imageload brings the images of an archive into containerd as CRI wants them: unpacked while they arrive, and
// under their names only when they are whole.
package imageload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/containerd/v2/core/diff"
	"github.com/containerd/containerd/v2/core/images"
	"github.com/containerd/containerd/v2/core/images/archive"
	"github.com/containerd/containerd/v2/core/leases"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/containerd/v2/core/unpack"
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// keepCut is how long the blobs of a load that was cut are kept for the next one.
const keepCut = 24 * time.Hour

// Node is the containerd that images are brought into.
type Node struct {
	Content     content.Store
	Images      images.Store
	Leases      leases.Manager
	Snapshots   snapshots.Snapshotter
	Snapshotter string // its name
	Applier     diff.Applier
	// Root is where content and snapshots are on disk; empty: not watched for space, and not synced.
	Root string
}

// Load reads an archive (OCI or docker) to its end and gives the names of its images. When it fails nothing is under
// these names; when the archive was cut, the blobs that came whole stay for the next load.
func Load(ctx context.Context, node Node, archive io.Reader) ([]string, error) {
	lease, err := node.Leases.Create(ctx, leases.WithRandomID(), leases.WithExpiration(keepCut))
	if err != nil {
		return nil, err
	}
	leased, stop := watchSpace(leases.WithLease(ctx, lease.ID), node.Root)
	names, err := load(leased, node, lease, archive)
	if cause := context.Cause(leased); cause != nil && ctx.Err() == nil {
		err = cause
	}
	stop()
	release, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err == nil {
		// What has a name needs no lease; the rest of it may go whenever there is time.
		return names, node.Leases.Delete(release, lease)
	}
	abortIngests(release, node, lease)
	if ctx.Err() == nil && !wasCut(err) {
		err = errors.Join(err, node.Leases.Delete(release, lease, leases.SynchronousDelete))
	}
	return nil, err
}

// wasCut is true when the rest of the archive may come another time.
func wasCut(err error) bool {
	var missing *MissingBlobError
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.As(err, &missing)
}

// abortIngests removes half blobs, which the lease would keep.
func abortIngests(ctx context.Context, node Node, lease leases.Lease) {
	statuses, err := node.Content.ListStatuses(ctx, "ref~=^"+lease.ID)
	if err != nil {
		return
	}
	for _, status := range statuses {
		_ = node.Content.Abort(ctx, status.Ref)
	}
}

func load(ctx context.Context, node Node, lease leases.Lease, reader io.Reader) ([]string, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	store := newIngest(node.Content, node.Leases, lease)
	unpacked := make(chan error, 1)
	var early ocispec.Descriptor
	go func() {
		select {
		case early = <-store.index:
			err := unpackIndex(ctx, node, store, early)
			if err != nil && !wasCut(err) {
				cancel() // what is still to come is of no use
			}
			unpacked <- err
		case <-store.ended:
			unpacked <- nil
		}
	}()
	index, readErr := archive.ImportIndex(ctx, store, reader)
	if readErr == nil {
		_, readErr = io.Copy(io.Discard, reader) // the padding behind the archive's end
	}
	if readErr != nil {
		cancel()
	}
	close(store.ended)
	unpackErr := <-unpacked
	// Whichever came first ended the other.
	if unpackErr != nil && !errors.Is(unpackErr, context.Canceled) {
		return nil, unpackErr
	}
	if readErr != nil {
		return nil, readErr
	}
	if unpackErr != nil {
		return nil, unpackErr
	}
	if early.Digest != index.Digest {
		if err := unpackIndex(ctx, node, store, index); err != nil {
			return nil, err
		}
	}
	named, err := namedImages(ctx, store, index)
	if err != nil {
		return nil, err
	}
	return publish(ctx, node, named)
}

// unpackIndex unpacks all images of an index for this node's platform, each layer when it has arrived. The layers of one
// image come one after the other: unpacked without those below it, a layer that does not list its parent folders would
// give them to root, readable by all.
func unpackIndex(ctx context.Context, node Node, store *ingest, index ocispec.Descriptor) error {
	unpacker, err := unpack.NewUnpacker(ctx, store,
		unpack.WithUnpackPlatform(unpack.Platform{
			Platform:       platforms.All, // runsHere decides
			SnapshotterKey: node.Snapshotter,
			Snapshotter:    node.Snapshots,
			Applier:        node.Applier,
		}),
		unpack.WithDuplicationSuppressor(&keyedLocks{}))
	if err != nil {
		return err
	}
	children := images.FilterPlatforms(func(ctx context.Context, desc ocispec.Descriptor) ([]ocispec.Descriptor, error) {
		if err := store.wait(ctx, desc.Digest); err != nil {
			return nil, err
		}
		if images.IsConfigType(desc.MediaType) && !runsHere(ctx, store, desc) {
			return nil, images.ErrSkipDesc
		}
		return images.Children(ctx, store, desc)
	}, platforms.Default())
	handler := images.SetChildrenLabels(store, children)
	dispatched := images.Dispatch(ctx, unpacker.Unpack(handler), nil, index)
	_, err = unpacker.Wait()
	if err != nil && (dispatched == nil || errors.Is(dispatched, context.Canceled)) {
		return err
	}
	return dispatched
}

// runsHere is true for a configuration of this node's platform, and for one that does not say.
func runsHere(ctx context.Context, store content.Provider, config ocispec.Descriptor) bool {
	platform, err := images.ConfigPlatform(ctx, store, config)
	return err == nil && (platform.Architecture == "" || platforms.Default().Match(platform))
}

// check makes sure that an image runs here and is whole; it gives the digest that is its ID for CRI.
func check(ctx context.Context, store content.Provider, target ocispec.Descriptor) (string, error) {
	manifest, err := images.Manifest(ctx, store, target, platforms.Default())
	if err != nil {
		return "", fmt.Errorf("no match for platform %s: %w", platforms.DefaultString(), err)
	}
	if !runsHere(ctx, store, manifest.Config) {
		return "", fmt.Errorf("no match for platform %s", platforms.DefaultString())
	}
	_, _, _, missing, err := images.Check(ctx, store, target, platforms.Default())
	if err == nil && len(missing) > 0 {
		err = &MissingBlobError{missing[0].Digest}
	}
	return manifest.Config.Digest.String(), err
}
