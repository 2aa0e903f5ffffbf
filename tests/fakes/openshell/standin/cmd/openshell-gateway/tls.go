package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log"
	"os"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/fsnotify/fsnotify"
)

// reloadDelay is how long the TLS files have to be at rest before they are read again.
const reloadDelay = time.Second

// identity is the server's certificate and whose clients it takes, as the files are now.
type identity struct {
	files    tlsFiles
	required bool
	config   atomic.Pointer[tls.Config]
}

// loadIdentity reads the files. `required`: a client without a certificate is refused.
func loadIdentity(files tlsFiles, required bool) (*identity, error) {
	i := &identity{files: files, required: required}
	return i, i.load()
}

func (i *identity) load() error {
	certificate, err := tls.LoadX509KeyPair(i.files.CertPath, i.files.KeyPath)
	if err != nil {
		return err
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{certificate},
		MinVersion:   tls.VersionTLS12,
		NextProtos:   []string{"h2", "http/1.1"},
	}
	if i.files.ClientCAPath != "" {
		text, err := os.ReadFile(i.files.ClientCAPath)
		if err != nil {
			return err
		}
		config.ClientCAs = x509.NewCertPool()
		if !config.ClientCAs.AppendCertsFromPEM(text) {
			return errors.New("no certificate in " + i.files.ClientCAPath)
		}
		config.ClientAuth = tls.VerifyClientCertIfGiven
		if i.required {
			config.ClientAuth = tls.RequireAndVerifyClientCert
		}
		log.Printf("TLS client certificate verification enabled (required: %v)", i.required)
	}
	i.config.Store(config)
	return nil
}

func (i *identity) current(*tls.ClientHelloInfo) (*tls.Config, error) { return i.config.Load(), nil }

// watch reads the files anew once they have changed; files that do not fit leave the old ones in use.
func (i *identity) watch(ctx context.Context) error {
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	for _, path := range []string{i.files.CertPath, i.files.KeyPath, i.files.ClientCAPath} {
		if path == "" {
			continue
		}
		// The folder, since a Secret's files are links that change with their folder.
		if err := watcher.Add(filepath.Dir(path)); err != nil {
			return err
		}
	}
	go func() {
		defer watcher.Close()
		rest := time.NewTimer(reloadDelay)
		rest.Stop()
		for {
			select {
			case <-watcher.Events:
				rest.Reset(reloadDelay)
			case err := <-watcher.Errors:
				log.Printf("watching the TLS files: %v", err)
			case <-rest.C:
				if err := i.load(); err != nil {
					log.Printf("TLS files not taken: %v", err)
				} else {
					log.Print("TLS files reloaded")
				}
			case <-ctx.Done():
				return
			}
		}
	}()
	return nil
}
