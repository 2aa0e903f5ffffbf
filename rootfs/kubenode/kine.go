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
	data   server.Backend
}

// noteFolder is kubenode's own part of the database, outside of what the API server asks for.
const noteFolder = "/kubenode/"

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
	k.db, k.data = db, backend
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

// noted gives a note that an earlier run left in the database; "" stands for none.
func (k *kineStore) noted(ctx context.Context, name string) (string, error) {
	_, found, err := k.data.Get(ctx, noteFolder+name, 0, false)
	if err != nil || found == nil {
		return "", err
	}
	return string(found.Value), nil
}

// note leaves one.
func (k *kineStore) note(ctx context.Context, name, text string) error {
	key := noteFolder + name
	_, found, err := k.data.Get(ctx, key, 0, false)
	switch {
	case err != nil:
		return err
	case found == nil:
		_, err = k.data.Create(ctx, key, []byte(text), 0)
	case string(found.Value) != text:
		_, _, _, err = k.data.Update(ctx, key, []byte(text), found.ModRevision, 0)
	}
	return err
}
