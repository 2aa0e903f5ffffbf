// Package database opens the cluster's database: SQLite as kine drives it.
package database

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/k3s-io/kine/pkg/drivers"
	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/drivers/sqlite"
	"github.com/k3s-io/kine/pkg/server"
)

// Open opens the file, which is made when it is missing, and starts what works on it until the context ends; running
// counts that. kine as a library has no defaults, so each value is given.
func Open(ctx context.Context, running *sync.WaitGroup, path string) (server.Backend, *generic.Generic, error) {
	backend, db, err := sqlite.NewVariant(ctx, running, "sqlite3", &drivers.Config{
		// NORMAL with a write-ahead log: a crash of the machine may lose the last moments, never the file's soundness.
		// No VACUUM at start: it rewrites the whole file and the freed pages are used again anyway.
		DataSourceName: path + "?_journal_mode=WAL&_busy_timeout=30000&_synchronous=NORMAL&_txlock=immediate&_kine_disable_startup_vacuum=1",
		ConnectionPoolConfig: generic.ConnectionPoolConfig{
			// Idle connections keep their page cache and prepared statements.
			MaxIdle: 8,
			MaxOpen: 8,
		},
		// This process is the only writer and every write wakes the poll; the timer is a safety net only.
		PollInterval:  30 * time.Second,
		PollBatchSize: 500,
		// The API server asks for compaction, as with etcd.
		CompactInterval:  0,
		CompactTimeout:   30 * time.Second,
		CompactMinRetain: 1000,
		CompactBatchSize: 1000,
	})
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open the cluster database %s: %w", path, err)
	}
	if err := backend.Start(ctx); err != nil {
		return nil, nil, fmt.Errorf("cannot start the cluster database: %w", err)
	}
	return &remembering{Backend: backend}, db, nil
}
