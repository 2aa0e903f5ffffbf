package database

import (
	"context"
	"sync/atomic"

	"github.com/k3s-io/kine/pkg/server"
)

// remembering is a database that never tells an older newest revision than its writes returned.
//
// kine (v0.17.5) remembers its newest revision by compare-and-swap, in each write and in the loop that reads new rows for
// the watches. After two writes at once both can lose: the first write's revision stays, until the next write. The API
// server then waits for the second one in every list that has to be current, three seconds long.
type remembering struct {
	server.Backend
	newest atomic.Int64
}

// written notes the revision of a write that is committed.
func (b *remembering) written(revision int64) {
	for {
		known := b.newest.Load()
		if revision <= known || b.newest.CompareAndSwap(known, revision) {
			return
		}
	}
}

// Create adds a key.
func (b *remembering) Create(ctx context.Context, key string, value []byte, lease int64) (int64, error) {
	revision, err := b.Backend.Create(ctx, key, value, lease)
	if err == nil {
		b.written(revision)
	}
	return revision, err
}

// Update changes a key if it is still of that revision.
func (b *remembering) Update(ctx context.Context, key string, value []byte, revision, lease int64) (int64, *server.KeyValue, bool, error) {
	now, kv, done, err := b.Backend.Update(ctx, key, value, revision, lease)
	if err == nil && done {
		b.written(now)
	}
	return now, kv, done, err
}

// Delete removes a key if it is still of that revision.
func (b *remembering) Delete(ctx context.Context, key string, revision int64) (int64, *server.KeyValue, bool, error) {
	now, kv, done, err := b.Backend.Delete(ctx, key, revision)
	if err == nil && done {
		b.written(now)
	}
	return now, kv, done, err
}

// CurrentRevision is at least that of every write that has returned.
func (b *remembering) CurrentRevision(ctx context.Context) (int64, error) {
	revision, err := b.Backend.CurrentRevision(ctx)
	if err != nil {
		return revision, err
	}
	return max(revision, b.newest.Load()), nil
}
