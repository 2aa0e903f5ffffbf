package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// pollInterval is how often the files are looked at where a change was not told.
const pollInterval = 10 * time.Second

// retryInterval is how soon files that do not fit together are tried again.
const retryInterval = 250 * time.Millisecond

// certificates holds the TLS settings that the files on disk ask for.
type certificates struct {
	certFile, keyFile, caFile string
	current                   atomic.Pointer[tls.Config]
	// replaced is called after new files have taken effect.
	replaced func()
	seen     [3]fileState
}

// fileState is enough to tell that a file is another one than before.
type fileState struct {
	modified time.Time
	size     int64
	info     os.FileInfo
}

func (a fileState) same(b fileState) bool {
	return a.modified.Equal(b.modified) && a.size == b.size && os.SameFile(a.info, b.info)
}

// load reads the three files. On failure the settings stay as they are.
func (c *certificates) load() error {
	seen, err := c.look()
	if err != nil {
		return err
	}
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(c.caFile)
	if err != nil {
		return err
	}
	clients := x509.NewCertPool()
	if !clients.AppendCertsFromPEM(text) {
		return fmt.Errorf("%s holds no certificate", c.caFile)
	}
	c.current.Store(&tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    clients,
		NextProtos:   []string{"h2", "http/1.1"},
		// A ticket would let a client in by a certificate authority that was replaced since.
		SessionTicketsDisabled: true,
	})
	c.seen = seen
	return nil
}

func (c *certificates) look() ([3]fileState, error) {
	var states [3]fileState
	for i, path := range []string{c.certFile, c.keyFile, c.caFile} {
		info, err := os.Stat(path)
		if err != nil {
			return states, err
		}
		states[i] = fileState{info.ModTime(), info.Size(), info}
	}
	return states, nil
}

// changed tells whether the files are not those that are in effect.
func (c *certificates) changed() bool {
	states, err := c.look()
	if err != nil {
		return false // in the middle of a swap
	}
	for i := range states {
		if !states[i].same(c.seen[i]) {
			return true
		}
	}
	return false
}

// awaitFirst loads the files, waiting for them to appear.
func (c *certificates) awaitFirst(ctx context.Context) error {
	for {
		err := c.load()
		if err == nil {
			return nil
		}
		if !errors.Is(err, os.ErrNotExist) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(retryInterval):
		}
	}
}

// watch puts changed files into effect until ctx ends. Files that do not fit together, such as a key
// whose certificate has not arrived yet, are tried again and change nothing meanwhile.
func (c *certificates) watch(ctx context.Context) {
	told := c.changes(ctx)
	wait := pollInterval
	for {
		select {
		case <-ctx.Done():
			return
		case <-told:
		case <-time.After(wait):
		}
		wait = pollInterval
		if !c.changed() {
			continue
		}
		if err := c.load(); err != nil {
			slog.Warn("the new certificates are not usable yet", "error", err)
			wait = retryInterval
			continue
		}
		slog.Info("certificates reloaded")
		c.replaced()
	}
}

// changes tells when something happens in the files' directories. Kubernetes swaps a symbolic link there, so
// watching the files themselves would miss it. It never closes; without notifications it says nothing.
func (c *certificates) changes(ctx context.Context) <-chan struct{} {
	told := make(chan struct{}, 1)
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		slog.Warn("changes of the certificates are seen late", "error", err)
		return told
	}
	for _, file := range []string{c.certFile, c.keyFile, c.caFile} {
		if err := watcher.Add(filepath.Dir(file)); err != nil {
			slog.Warn("changes of a certificate are seen late", "error", err)
		}
	}
	go func() {
		defer watcher.Close()
		for {
			select {
			case <-ctx.Done():
				return
			case <-watcher.Errors:
			case <-watcher.Events:
				select {
				case told <- struct{}{}:
				default:
				}
			}
		}
	}()
	return told
}

// serverConfig is what the listener uses: each handshake gets the settings of its moment.
func (c *certificates) serverConfig() *tls.Config {
	base := c.current.Load().Clone()
	base.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		return c.current.Load(), nil
	}
	return base
}
