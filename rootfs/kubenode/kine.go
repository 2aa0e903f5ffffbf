package main

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/server"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/keepalive"

	"gateway.local/kubenode/internal/database"
	"gateway.local/kubenode/internal/layout"
)

// kineStore is the cluster's database: SQLite behind the etcd protocol on a unix socket.
type kineStore struct {
	cancel context.CancelFunc
	wait   sync.WaitGroup
	db     *generic.Generic
	grpc   *grpc.Server
}

// startKine opens the database and serves it.
func startKine(l layout.Layout) (*kineStore, error) {
	logrus.SetLevel(logrus.WarnLevel)
	ctx, cancel := context.WithCancel(context.Background())
	k := &kineStore{cancel: cancel}
	backend, db, err := database.Open(ctx, &k.wait, l.Database())
	if err != nil {
		cancel()
		return nil, err
	}
	k.db = db
	if err := k.serve(backend, l.KineSocket()); err != nil {
		cancel()
		return nil, err
	}
	return k, nil
}

func (k *kineStore) serve(backend server.Backend, socket string) error {
	k.grpc = grpc.NewServer(
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second}),
		grpc.MaxConcurrentStreams(math.MaxUint32),
		grpc.MaxRecvMsgSize(2<<20),
		grpc.MaxSendMsgSize(math.MaxInt32),
	)
	// The version tells the API server that watch progress can be asked for.
	server.New(backend, "unix", 5*time.Second, "3.6.11").Register(k.grpc)
	listener, err := listenPrivate(socket)
	if err != nil {
		return fmt.Errorf("cannot serve the cluster database: %w", err)
	}
	go func() {
		if err := k.grpc.Serve(listener); err != nil {
			logf("kine stopped serving: %v", err)
		}
	}()
	return nil
}

// stop ends every watch, folds the write-ahead log into the file and closes it.
func (k *kineStore) stop() {
	k.grpc.Stop()
	if _, err := k.db.DB.Exec("PRAGMA wal_checkpoint(TRUNCATE)"); err != nil {
		logf("cannot checkpoint the cluster database: %v", err)
	}
	k.cancel()
	waitBounded(2*time.Second, k.wait.Wait)
}
