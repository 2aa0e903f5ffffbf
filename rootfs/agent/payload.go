//go:build linux

package main

import (
	"archive/tar"
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// findDisk returns the block device whose virtio serial is the given one.
func findDisk(blocks, serial string) (string, error) {
	entries, err := os.ReadDir(blocks)
	if err != nil {
		return "", err
	}
	for _, entry := range entries {
		text, err := os.ReadFile(filepath.Join(blocks, entry.Name(), "serial"))
		if err == nil && strings.TrimSpace(string(text)) == serial {
			return filepath.Join("/dev", entry.Name()), nil
		}
	}
	return "", fmt.Errorf("no disk has the serial %q", serial)
}

// unpackPayload replaces dir with what the payload disk holds now. Whoever looks sees the old
// directory or the new one, never a mixture. It returns the number of files.
func unpackPayload(device, dir string) (int, error) {
	if device == "" {
		var err error
		if device, err = findDisk("/sys/block", "payload"); err != nil {
			return 0, err
		}
	}
	disk, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer disk.Close()
	if info, err := disk.Stat(); err != nil || info.Mode()&os.ModeDevice != 0 {
		// The host may have written a new payload; the page cache still has the old one.
		if err := ioctl(disk, unix.BLKFLSBUF, nil); err != nil {
			return 0, fmt.Errorf("BLKFLSBUF %s: %w", device, err)
		}
	}
	fresh := dir + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return 0, err
	}
	files, err := unpack(bufio.NewReaderSize(disk, 256*1024), fresh)
	if err == nil {
		err = swap(fresh, dir)
	}
	_ = os.RemoveAll(fresh)
	return files, err
}

// swap puts fresh in the place of dir in one step; the old content is then at fresh.
func swap(fresh, dir string) error {
	err := unix.Renameat2(unix.AT_FDCWD, fresh, unix.AT_FDCWD, dir, unix.RENAME_EXCHANGE)
	if errors.Is(err, unix.ENOENT) {
		return os.Rename(fresh, dir)
	}
	if err != nil {
		return fmt.Errorf("cannot put %s in the place of %s: %w", fresh, dir, err)
	}
	return nil
}

// unpack writes the files and directories of a tar stream under root, which it makes with mode 0700.
// Links, devices and files with holes have no place in a payload and are refused.
func unpack(from io.Reader, root string) (int, error) {
	if err := os.Mkdir(root, 0o700); err != nil {
		return 0, err
	}
	reader, files := tar.NewReader(from), 0
	for {
		header, err := reader.Next()
		if errors.Is(err, io.EOF) {
			if files == 0 {
				return 0, errors.New("the payload is empty")
			}
			return files, nil
		}
		if err != nil {
			return files, fmt.Errorf("the payload is not a tar archive: %w", err)
		}
		name := filepath.Clean(header.Name)
		if !filepath.IsLocal(name) {
			return files, fmt.Errorf("the payload names a file outside itself: %q", header.Name)
		}
		if err := unpackEntry(reader, header, filepath.Join(root, name)); err != nil {
			return files, err
		}
		if header.Typeflag == tar.TypeReg {
			files++
		}
	}
}

func unpackEntry(reader io.Reader, header *tar.Header, path string) error {
	mode := os.FileMode(header.Mode) & 0o777
	switch header.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(path, mode|0o700)
	case tar.TypeReg:
	default:
		return fmt.Errorf("the payload holds %q, which is neither file nor directory", header.Name)
	}
	// The size of a file with holes has no limit in the size of the disk.
	if header.PAXRecords["GNU.sparse.major"] != "" || header.PAXRecords["GNU.sparse.map"] != "" {
		return fmt.Errorf("the payload holds %q, which is a file with holes", header.Name)
	}
	if filepath.Clean(header.Name) == "." {
		return fmt.Errorf("the payload holds %q as a file", header.Name)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	// A file that comes twice is the later one, as with tar.
	_ = os.Remove(path)
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	// Whatever the umask took away: the archive decides.
	if err = file.Chmod(mode); err == nil {
		_, err = io.Copy(file, reader)
	}
	if closeErr := file.Close(); err == nil {
		err = closeErr
	}
	return err
}
