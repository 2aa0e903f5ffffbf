// Package database opens the cluster's database: SQLite as kine drives it.
package database

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"github.com/k3s-io/kine/pkg/drivers"
	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/drivers/sqlite"
	"github.com/k3s-io/kine/pkg/server"
)

const (
	// NORMAL with a write-ahead log: a crash of the machine may lose the last moments, never the file's soundness.
	parameters = "_pragma=busy_timeout(30000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate"
	// No VACUUM at start: it rewrites the whole file and the freed pages are used again anyway.
	noVacuum = "&_kine_disable_startup_vacuum=1"
	// Idle connections keep their page cache and prepared statements.
	connections = 8
)

// Open opens the file, which is made when it is missing, and starts what works on it until the context ends; running
// counts that.
func Open(ctx context.Context, running *sync.WaitGroup, path string) (server.Backend, *generic.Generic, error) {
	backend, db, err := connect(ctx, running, path)
	if err != nil {
		return nil, nil, fmt.Errorf("cannot open the cluster database %s: %w", path, err)
	}
	if err := backend.Start(ctx); err != nil {
		return nil, nil, fmt.Errorf("cannot start the cluster database: %w", err)
	}
	return &remembering{Backend: backend}, db, nil
}

// connect opens the connections. kine as a library has no defaults, so each value is given.
func connect(ctx context.Context, running *sync.WaitGroup, path string) (server.Backend, *generic.Generic, error) {
	if err := stablePlans(); err != nil {
		return nil, nil, err
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, nil, err
	}
	backend, db, err := sqlite.NewVariant(ctx, running, "sqlite3", &drivers.Config{
		DataSourceName:       path + "?" + parameters + noVacuum,
		ConnectionPoolConfig: generic.ConnectionPoolConfig{MaxIdle: 1, MaxOpen: 1}, // see keepStatements
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
		return nil, nil, err
	}
	return backend, db, keepStatements(ctx, running, db, "file://"+path+"?"+parameters)
}

// keepStatements replaces the connections that kine opened, and set the tables up with, by such that keep their prepared
// statements.
func keepStatements(ctx context.Context, running *sync.WaitGroup, db *generic.Generic, source string) error {
	first := db.DB
	kept := sql.OpenDB(prepared{first.Driver(), source})
	kept.SetMaxIdleConns(connections)
	kept.SetMaxOpenConns(connections)
	// Before the first is closed: the last connection that closes empties the write-ahead log.
	if err := kept.PingContext(ctx); err != nil {
		return errors.Join(err, kept.Close())
	}
	db.DB = kept
	running.Go(func() {
		<-ctx.Done()
		_ = kept.Close()
	})
	return first.Close()
}
