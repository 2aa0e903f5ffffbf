package main

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"gateway.local/standin/wire"
)

// record is a sandbox as the gateway remembers it. Session is secret.
type record struct {
	ID      string
	Name    string
	Session string
}

// data is all that outlives the process.
type data struct {
	Sandboxes []record
	Providers []wire.Provider
}

// database is one file on the StatefulSet's volume, replaced as a whole.
type database struct {
	path string
	mu   sync.Mutex
	data data
}

func openDatabase(path string) (*database, error) {
	if path == "" {
		return nil, errors.New("no database: --db-url is empty")
	}
	d := &database{path: path}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return d, d.write(data{})
	}
	if err != nil {
		return nil, err
	}
	return d, json.Unmarshal(text, &d.data)
}

func (d *database) read() data {
	d.mu.Lock()
	defer d.mu.Unlock()
	return data{Sandboxes: slices.Clone(d.data.Sandboxes), Providers: slices.Clone(d.data.Providers)}
}

// change lets a function edit a copy, which is kept once it is on the disk.
func (d *database) change(edit func(*data) error) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := data{Sandboxes: slices.Clone(d.data.Sandboxes), Providers: slices.Clone(d.data.Providers)}
	if err := edit(&next); err != nil {
		return err
	}
	return d.write(next)
}

func (d *database) write(next data) error {
	text, err := json.Marshal(next)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp(filepath.Dir(d.path), ".database-")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(text)
	if err = errors.Join(err, file.Sync(), file.Close()); err != nil {
		return err
	}
	if err := os.Rename(file.Name(), d.path); err != nil {
		return err
	}
	d.data = next
	return nil
}

func (d *data) sandbox(name string) *record {
	at := slices.IndexFunc(d.Sandboxes, func(one record) bool { return one.Name == name })
	if at < 0 {
		return nil
	}
	return &d.Sandboxes[at]
}
