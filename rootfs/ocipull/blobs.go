package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"
)

// keepFor is how long a blob that no pull asked for stays.
const keepFor = 14 * 24 * time.Hour

// keepPartFor is how long a cut download waits for the pull that completes it. On a full disk it is what fills it.
const keepPartFor = 2 * 24 * time.Hour

var digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// blobCache keeps whole blobs under their digest and cut ones beside them, NAME.part, for the next pull.
type blobCache struct{ dir string }

func (b *blobCache) path(digest string) string { return filepath.Join(b.dir, digest[len("sha256:"):]) }

// read gives a small blob if it is there and whole.
func (b *blobCache) read(digest string) ([]byte, error) {
	content, err := os.ReadFile(b.path(digest))
	if err != nil {
		return nil, err
	}
	if digestOf(content) != digest {
		return nil, fmt.Errorf("%s is damaged", digest)
	}
	touch(b.path(digest))
	return content, nil
}

// write keeps a small blob, by rename.
func (b *blobCache) write(digest string, content []byte) error {
	temporary, err := os.CreateTemp(b.dir, ".new-")
	if err != nil {
		return err
	}
	_, err = temporary.Write(content)
	if closing := temporary.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temporary.Name(), b.path(digest))
	}
	if err != nil {
		_ = os.Remove(temporary.Name())
	}
	return err
}

// whole tells whether a blob is there with the bytes that its digest stands for; a damaged one is removed.
func (b *blobCache) whole(d descriptor) bool {
	path := b.path(d.Digest)
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	if info.Size() == d.Size {
		if found, err := digestFile(path); err == nil && found == d.Digest {
			touch(path)
			return true
		}
	}
	_ = os.Remove(path)
	return false
}

// hold brings a blob into the cache. Only one process downloads a blob; others wait for it and find it done.
func (b *blobCache) hold(ctx context.Context, out *report, d descriptor, download func(*partial) error) error {
	if b.whole(d) {
		return nil
	}
	part, err := b.lock(ctx, out, d)
	if err != nil {
		return err
	}
	if part == nil {
		return nil
	}
	defer part.file.Close()
	if b.whole(d) {
		return nil
	}
	if err := part.resume(); err != nil {
		return err
	}
	if err := download(part); err != nil {
		return err
	}
	if err := part.file.Sync(); err != nil {
		return err
	}
	return os.Rename(part.file.Name(), b.path(d.Digest))
}

// lock opens the partial file as its only user; nil when the blob is whole by then. The file may have been renamed
// while we waited, and then it is not the one to write to.
func (b *blobCache) lock(ctx context.Context, out *report, d descriptor) (*partial, error) {
	name := b.path(d.Digest) + ".part"
	told := false
	for {
		file, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			held, heldErr := file.Stat()
			there, thereErr := os.Stat(name)
			if heldErr == nil && thereErr == nil && os.SameFile(held, there) {
				return &partial{file: file}, nil
			}
		}
		_ = file.Close()
		if err != nil && !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, err
		}
		if b.whole(d) {
			return nil, nil
		}
		if err == nil {
			continue
		}
		if !told {
			out.note("another process pulls the blob %s; waiting for it", short(d.Digest))
			told = true
		}
		select {
		case <-ctx.Done():
			return nil, context.Canceled
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// sweep removes what no pull has asked for in a long time.
func (b *blobCache) sweep(now time.Time) {
	entries, err := os.ReadDir(b.dir)
	if err != nil {
		return
	}
	for _, entry := range entries {
		limit := keepFor
		if strings.HasSuffix(entry.Name(), ".part") {
			limit = keepPartFor
		}
		if info, err := entry.Info(); err == nil && now.Sub(info.ModTime()) > limit {
			_ = os.Remove(filepath.Join(b.dir, entry.Name()))
		}
	}
}

// partial is a blob on its way, with the digest of what is there.
type partial struct {
	file *os.File
	size int64
	sum  hash.Hash
}

// resume reads what an earlier pull left.
func (p *partial) resume() error {
	p.sum = sha256.New()
	var err error
	if _, err = p.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	p.size, err = io.Copy(p.sum, p.file)
	return err
}

func (p *partial) restart() error {
	p.sum, p.size = sha256.New(), 0
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	_, err := p.file.Seek(0, io.SeekStart)
	return err
}

func (p *partial) append(piece []byte) error {
	n, err := p.file.Write(piece)
	p.sum.Write(piece[:n])
	p.size += int64(n)
	return err
}

func (p *partial) digest() string { return "sha256:" + hex.EncodeToString(p.sum.Sum(nil)) }

func digestFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil)), nil
}

func touch(path string) {
	now := time.Now()
	_ = os.Chtimes(path, now, now)
}
