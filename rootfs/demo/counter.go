package main

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
)

// counter is a number in a file. It shows whether a volume keeps what was written to it.
type counter struct {
	lock sync.Mutex
	dir  string
}

func (c *counter) path() string { return filepath.Join(c.dir, "counter") }

func (c *counter) read() (uint64, error) {
	text, err := os.ReadFile(c.path())
	if errors.Is(err, os.ErrNotExist) {
		if _, err := os.Stat(c.dir); err != nil {
			return 0, err
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
}

// add increments the number; when it returns without an error the new one is on the disk.
func (c *counter) add() (uint64, error) {
	c.lock.Lock()
	defer c.lock.Unlock()
	value, err := c.read()
	if err != nil {
		return 0, err
	}
	value++
	return value, replaceFile(c.path(), strconv.FormatUint(value, 10)+"\n")
}

func replaceFile(path, text string) error {
	file, err := os.CreateTemp(filepath.Dir(path), ".counter-*")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.WriteString(text)
	if err == nil {
		err = file.Sync()
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	if err == nil {
		err = os.Rename(file.Name(), path)
	}
	if err != nil {
		return err
	}
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}

func (c *counter) serve(w http.ResponseWriter, action func() (uint64, error)) {
	value, err := action()
	switch {
	case errors.Is(err, os.ErrNotExist):
		http.Error(w, "no volume is mounted", http.StatusNotFound)
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
	default:
		fmt.Fprintln(w, value)
	}
}
