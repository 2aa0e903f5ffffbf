//go:build linux

package verify

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

func fileChecks() map[string]check {
	return map[string]check{
		"fs.tmpfs":    fsTmpfs,
		"fs.mqueue":   fsMqueue,
		"fs.ext4":     fsExt4,
		"fs.overlay":  fsOverlay,
		"fs.fuse":     fsFuse,
		"fs.virtiofs": fsVirtiofs,
	}
}

// mounted works below a temporary folder, on a thread whose mounts nobody else sees.
func mounted(parent string, work func(dir string) error) error {
	dir, err := os.MkdirTemp(parent, "gateway-verify-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	return onThread(func() error {
		if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		return work(dir)
	})
}

func fsTmpfs(Host) (string, error) {
	return "a full one said so", mounted("", func(dir string) error {
		if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
			return err
		}
		err := os.WriteFile(filepath.Join(dir, "large"), make([]byte, 1<<20), 0o600)
		if !errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("1 MiB into 64 KiB gave %v", err)
		}
		return unix.Unmount(dir, unix.MNT_DETACH)
	})
}

// fsMqueue mounts the file system that runc mounts, and passes a message.
func fsMqueue(Host) (string, error) {
	return "a message went through a queue", mounted("", func(dir string) error {
		if err := unix.Mount("mqueue", dir, "mqueue", 0, ""); err != nil {
			return err
		}
		defer func() { _ = unix.Unmount(dir, unix.MNT_DETACH) }()
		name := []byte("gateway-verify\x00")
		attr := [8]uint64{0, 1, 16} // flags, messages, bytes of one
		open := uintptr(unix.O_RDWR | unix.O_CREAT | unix.O_NONBLOCK)
		fd, _, errno := unix.Syscall6(unix.SYS_MQ_OPEN, address(name), open, 0o600, uintptr(unsafe.Pointer(&attr)), 0, 0)
		if errno != 0 {
			return fmt.Errorf("mq_open: %w", errno)
		}
		defer unix.Close(int(fd))
		defer unix.Syscall(unix.SYS_MQ_UNLINK, address(name), 0, 0)
		text, got := []byte("hello"), make([]byte, 16)
		if _, _, errno := unix.Syscall6(unix.SYS_MQ_TIMEDSEND, fd, address(text), 5, 0, 0, 0); errno != 0 {
			return fmt.Errorf("mq_timedsend: %w", errno)
		}
		n, _, errno := unix.Syscall6(unix.SYS_MQ_TIMEDRECEIVE, fd, address(got), 16, 0, 0, 0)
		if errno != 0 || !bytes.Equal(got[:n], text) {
			return fmt.Errorf("mq_timedreceive gave %q, %v", got[:n], errno)
		}
		return nil
	})
}

func address(data []byte) uintptr { return uintptr(unsafe.Pointer(&data[0])) }

const statePath = "/state"

// onState says whether the state disk is there; an --exec VM keeps its state in memory.
func onState() error {
	var stat unix.Statfs_t
	if err := unix.Statfs(statePath, &stat); err != nil || stat.Type == unix.TMPFS_MAGIC {
		return skip{"this VM has no state disk"}
	}
	if stat.Type != unix.EXT4_SUPER_MAGIC {
		return fmt.Errorf("the state disk is no ext4 (magic %#x)", stat.Type)
	}
	return nil
}

func fsExt4(Host) (string, error) {
	if err := onState(); err != nil {
		return "", err
	}
	dir, err := os.MkdirTemp(statePath, "gateway-verify-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "file")
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	_, err = file.Write(make([]byte, 1<<20))
	for _, next := range []func() error{
		file.Sync,
		func() error { return unix.Setxattr(path, "trusted.gateway", []byte("kept"), 0) },
		func() error { return os.Rename(path, path+"2") },
		func() error {
			value := make([]byte, 8)
			n, err := unix.Getxattr(path+"2", "trusted.gateway", value)
			if err == nil && string(value[:n]) != "kept" {
				err = fmt.Errorf("an attribute became %q", value[:n])
			}
			return err
		},
	} {
		if err == nil {
			err = next()
		}
	}
	return "a file was synced, renamed and kept its attribute", err
}

func fsOverlay(Host) (string, error) {
	if err := onState(); err != nil {
		return "", err
	}
	return "copy-up, whiteout and a new file on ext4", mounted(statePath, func(dir string) error {
		at := func(path string) string { return filepath.Join(dir, path) }
		for _, name := range []string{"lower", "upper", "work", "merged"} {
			if err := os.Mkdir(at(name), 0o755); err != nil {
				return err
			}
		}
		for _, name := range []string{"change", "delete"} {
			if err := os.WriteFile(at("lower/"+name), []byte("below"), 0o644); err != nil {
				return err
			}
		}
		layers := fmt.Sprintf("lowerdir=%s,upperdir=%s,workdir=%s", at("lower"), at("upper"), at("work"))
		if err := unix.Mount("overlay", at("merged"), "overlay", 0, layers); err != nil {
			return err
		}
		defer func() { _ = unix.Unmount(at("merged"), unix.MNT_DETACH) }()
		return errors.Join(
			os.WriteFile(at("merged/change"), []byte("above"), 0o644),
			os.Remove(at("merged/delete")),
			os.Mkdir(at("merged/new"), 0o755),
			holds(at("lower/change"), "below"), holds(at("upper/change"), "above"),
			holds(at("lower/delete"), "below"), isGone(at("merged/delete")),
		)
	})
}

func holds(path, text string) error {
	data, err := os.ReadFile(path)
	if err == nil && string(data) != text {
		err = fmt.Errorf("%s holds %q instead of %q", filepath.Base(path), data, text)
	}
	return err
}

func isGone(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s is still there", filepath.Base(path))
	}
	return nil
}

func fsFuse(Host) (string, error) {
	device, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		return "", err
	}
	defer device.Close()
	return "a file system of user space was mounted", mounted("", func(dir string) error {
		options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0", device.Fd())
		if err := unix.Mount("gateway", dir, "fuse.gateway", 0, options); err != nil {
			return err
		}
		return unix.Unmount(dir, unix.MNT_DETACH)
	})
}

// fsVirtiofs mounts a share that does not exist: a kernel that knows the file system says that the
// tag is unknown (EINVAL), one that does not, that the file system is (ENODEV).
func fsVirtiofs(Host) (string, error) {
	return "an unknown share was refused as such", mounted("", func(dir string) error {
		err := unix.Mount("gateway-no-such-share", dir, "virtiofs", 0, "")
		if !errors.Is(err, unix.EINVAL) {
			return fmt.Errorf("mounting a share that is not there gave %v", err)
		}
		return nil
	})
}
