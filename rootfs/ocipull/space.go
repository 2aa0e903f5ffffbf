package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// What a manifest may claim at most. A registry writes these numbers, so they are checked before anything is downloaded.
const (
	imageLimit  = 256 << 30
	configLimit = 8 << 20
	chartLimit  = 64 << 20
)

// prepare checks the sizes and the disk, and reports what will be downloaded, before the first blob is requested.
func (p *puller) prepare(list []descriptor, limit int64) error {
	if err := within(list, limit); err != nil {
		return err
	}
	missing, err := p.room(list)
	if err != nil {
		return err
	}
	for _, d := range list {
		p.total += d.Size
	}
	switch {
	case missing == p.total:
		p.out.note("downloading %s", sizeText(missing))
	case missing > 0:
		p.out.note("downloading %s of %s; the rest is in the cache", sizeText(missing), sizeText(p.total))
	}
	return nil
}

// size tells what a pull of an image or a chart would download; nothing but manifests is requested.
func (p *puller) size(ctx context.Context) (*result, error) {
	content, digest, err := p.choose(ctx, p.asked.Digest, 2)
	if err != nil {
		return nil, err
	}
	manifest, err := readManifest(content)
	if err != nil {
		return nil, err
	}
	list := manifest.blobs()
	if err := within(list, imageLimit); err != nil {
		return nil, err
	}
	whole, missing := p.blobs.measure(list)
	return &result{Manifest: digest, Bytes: whole, Missing: missing}, nil
}

// within refuses blobs whose sizes are invalid or add up to more than a limit.
func within(list []descriptor, limit int64) error {
	var sum int64
	for _, d := range list {
		if !digestPattern.MatchString(d.Digest) || d.Size < 0 {
			return fail("layout", "its manifest names no sha256 digest")
		}
		if d.Size > limit-sum {
			return fail("too-large", "its manifest lists more than %s, which is the limit", sizeText(limit))
		}
		sum += d.Size
	}
	return nil
}

// room compares what the blobs and the file made from them need with the free space, before anything is downloaded,
// and returns how many bytes are still to be downloaded.
func (p *puller) room(list []descriptor) (int64, error) {
	whole, missing := p.blobs.measure(list)
	output := filepath.Dir(p.asked.Output)
	same, err := sameFileSystem(p.asked.Blobs, output)
	if err != nil {
		return 0, err
	}
	if same {
		return missing, p.fits(p.asked.Blobs, missing+whole)
	}
	if err := p.fits(p.asked.Blobs, missing); err != nil {
		return 0, err
	}
	return missing, p.fits(output, whole)
}

func (p *puller) fits(dir string, needed int64) error {
	free, err := p.free(dir)
	if err != nil {
		return err
	}
	if needed > free {
		return fail("no-space", "it needs %s of disk space, and %s are free", sizeText(needed), sizeText(free))
	}
	return nil
}

// measure returns how many bytes the different blobs of a list have, and how many of those are not in the cache.
func (b *blobCache) measure(list []descriptor) (whole, missing int64) {
	seen := map[string]bool{}
	for _, d := range list {
		if seen[d.Digest] {
			continue
		}
		seen[d.Digest] = true
		whole += d.Size
		missing += b.missing(d)
	}
	return whole, missing
}

// missing is how much of a blob is not in the cache, by the sizes of its files.
func (b *blobCache) missing(d descriptor) int64 {
	if info, err := os.Stat(b.path(d.Digest)); err == nil && info.Size() == d.Size {
		return 0
	}
	if info, err := os.Stat(b.path(d.Digest) + ".part"); err == nil {
		return max(d.Size-info.Size(), 0)
	}
	return d.Size
}

// freeBytes is what an ordinary user may still write below a folder.
func freeBytes(dir string) (int64, error) {
	var found syscall.Statfs_t
	if err := syscall.Statfs(dir, &found); err != nil {
		return 0, err
	}
	return int64(found.Bavail) * int64(found.Bsize), nil
}

func sameFileSystem(a, b string) (bool, error) {
	var first, second syscall.Stat_t
	if err := syscall.Stat(a, &first); err != nil {
		return false, err
	}
	if err := syscall.Stat(b, &second); err != nil {
		return false, err
	}
	return first.Dev == second.Dev, nil
}

// sizeText writes a size as the progress of the command line does.
func sizeText(bytes int64) string {
	value, unit := float64(bytes), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, next
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", bytes)
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}
