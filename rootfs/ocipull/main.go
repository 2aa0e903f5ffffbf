// Command ocipull brings images and charts out of registries, by digest, into files, and tells what digest a tag
// stands for. Names, credentials and
// the registries' login are go-containerregistry's, the library under crane; which mirror is asked, how a cut
// download goes on, and that two pulls of one blob wait for each other is decided here.
//
// It reads one request as JSON from its standard input, since a request may hold credentials, and writes one
// JSON object a line: progress, notes, and at the end a result or an error. It must not write a credential
// anywhere.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// request is what the standard input holds.
type request struct {
	Arch       string     `json:"arch"`
	Blobs      string     `json:"blobs"` // folder of the blob cache
	Registries registries `json:"registries"`
	CAFiles    []string   `json:"caFiles"`
	Kind       string     `json:"kind"` // "image", "chart", "digest", or "size"
	Ref        string     `json:"ref"`
	Digest     string     `json:"digest"` // empty where it is asked for
	Output     string     `json:"output"`
}

// failure is an error with the kind that the caller switches on.
type failure struct {
	Kind string `json:"kind"`
	Why  string `json:"why"`
}

func (f *failure) Error() string { return f.Why }

func fail(kind, format string, values ...any) *failure {
	return &failure{Kind: kind, Why: fmt.Sprintf(format, values...)}
}

// result tells what was pulled.
type result struct {
	Manifest string   `json:"manifest"` // digest of the one manifest that was taken
	Bytes    int64    `json:"bytes"`
	Fetched  int64    `json:"fetched"` // of them, what came over the network now
	Missing  int64    `json:"missing"` // of them, what is not in the cache; only for "size"
	Names    []string `json:"names,omitempty"`
}

// report writes the lines that the caller reads.
type report struct {
	mu      sync.Mutex
	encoder *json.Encoder
}

func (r *report) send(key string, value any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_ = r.encoder.Encode(map[string]any{key: value})
}

func (r *report) note(format string, values ...any) { r.send("note", fmt.Sprintf(format, values...)) }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	out := &report{encoder: json.NewEncoder(os.Stdout)}
	done, err := run(ctx, out)
	if err == nil {
		out.send("result", done)
		return
	}
	var known *failure
	if !errors.As(err, &known) {
		known = classify(err)
	}
	out.send("error", known)
	os.Exit(1)
}

func run(ctx context.Context, out *report) (*result, error) {
	var asked request
	decoder := json.NewDecoder(os.Stdin)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&asked); err != nil {
		return nil, fail("request", "the request cannot be read: %v", err)
	}
	p, err := newPuller(&asked, out)
	if err != nil {
		return nil, err
	}
	switch asked.Kind {
	case "digest":
		return p.digest(ctx)
	case "chart":
		return p.chart(ctx)
	case "size":
		return p.size(ctx)
	}
	return p.image(ctx)
}
