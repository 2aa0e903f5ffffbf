package imageload

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// A load leaves this much of the disk to the cluster's database and logs: a sixteenth, within these bounds.
const (
	leastReserve = 64 << 20
	mostReserve  = 512 << 20
)

// watchSpace ends the context with a cause before the disk at root is full.
func watchSpace(ctx context.Context, root string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	if root == "" {
		return ctx, func() { cancel(nil) }
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if err := checkSpace(root); err != nil {
				cancel(err)
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
	return ctx, func() { cancel(nil); <-done }
}

func checkSpace(root string) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(root, &fs); err != nil {
		return nil // what cannot be asked is not known to be full
	}
	return spaceFault(fs.Bavail*uint64(fs.Bsize), fs.Blocks*uint64(fs.Bsize))
}

func spaceFault(free, size uint64) error {
	reserve := min(max(size/16, leastReserve), mostReserve)
	if free >= reserve {
		return nil
	}
	return fmt.Errorf("no space left on device: %d MiB are free, and %d MiB are kept for the cluster", free>>20, reserve>>20)
}
