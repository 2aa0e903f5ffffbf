package confine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Process gives up the user root, capabilities, files but the host's settings of names, programs. It becomes the user
// unless that is 0, and may still remove what is in the folder of its own sockets. All threads do so; later ones inherit
// it. A host without Landlock leaves its files as they are, one without a second user leaves its user; both are told in
// the result.
func Process(user int, sockets string) (State, error) {
	var told State
	if err := dropPrivileges(user, &told); err != nil {
		return told, fmt.Errorf("cannot give up capabilities: %w", err)
	}
	if err := onAllThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1, 0); err != nil {
		return told, fmt.Errorf("cannot give up new privileges: %w", err)
	}
	if err := confineFiles(sockets, &told); err != nil {
		return told, fmt.Errorf("cannot confine files: %w", err)
	}
	if err := confineCalls(); err != nil {
		return told, fmt.Errorf("cannot confine system calls: %w", err)
	}
	told.User = os.Getuid()
	return told, nil
}

// onAllThreads needs a program without cgo, as ours is.
func onAllThreads(call, a, b, c uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall(call, a, b, c); errno != 0 {
		return errno
	}
	return nil
}

// dropPrivileges becomes another user where root asks for one, and keeps the capability for forwards from low ports only,
// if it has that.
func dropPrivileges(user int, told *State) error {
	const keep = 1 << unix.CAP_NET_BIND_SERVICE
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData
	if err := unix.Capget(&header, &sets[0]); err != nil {
		return err
	}
	left := sets[0].Permitted & keep
	for capability := uintptr(0); capability < 64; capability++ {
		if err := onAllThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, capability, 0); err != nil {
			break
		}
	}
	_ = onAllThreads(unix.SYS_PRCTL, unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0)
	if user != 0 && os.Getuid() == 0 {
		_ = onAllThreads(unix.SYS_PRCTL, unix.PR_SET_KEEPCAPS, 1, 0)
		if err := becomeUser(user); err != nil {
			told.Why = fmt.Sprintf("it cannot become user %d: %v", user, err)
		}
	}
	sets = [2]unix.CapUserData{{Effective: left, Permitted: left}}
	header.Pid = 0
	return onAllThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&sets[0])), 0)
}

// becomeUser tries the user first by itself: once the groups are given up there is no way back.
func becomeUser(user int) error {
	if err := syscall.Setresuid(-1, user, -1); err != nil {
		return err
	}
	if err := syscall.Setresuid(-1, 0, -1); err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setresgid(user, user, user)); err != nil {
		return err
	}
	return syscall.Setresuid(user, user, user)
}

// Later versions of Landlock have more; each bit is refused by a kernel that does not know it.
func handledFiles(version int) uint64 {
	handled := uint64(unix.LANDLOCK_ACCESS_FS_MAKE_SYM<<1 - 1)
	for _, later := range []struct {
		version int
		right   uint64
	}{
		{2, unix.LANDLOCK_ACCESS_FS_REFER}, {3, unix.LANDLOCK_ACCESS_FS_TRUNCATE}, {5, unix.LANDLOCK_ACCESS_FS_IOCTL_DEV},
	} {
		if version >= later.version {
			handled |= later.right
		}
	}
	return handled
}

// readable is what names and addresses are looked up in, again and again: editors and network managers replace such files,
// so their folders count.
func readable() []string {
	paths := []string{"/etc", "/usr/share/zoneinfo", "/proc/sys/net", "/dev/null", "/dev/urandom"}
	for _, path := range []string{"/etc/resolv.conf", "/etc/hosts"} {
		if real, err := filepath.EvalSymlinks(path); err == nil && filepath.Dir(real) != "/" {
			paths = append(paths, filepath.Dir(real))
		}
	}
	return paths
}

func confineFiles(sockets string, told *State) error {
	version, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	if errno != 0 {
		told.Why = fmt.Sprintf("no Landlock: %v", errno)
		return nil
	}
	attr := unix.LandlockRulesetAttr{Access_fs: handledFiles(int(version))}
	if version >= 6 {
		attr.Scoped = unix.LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET
	}
	size := unsafe.Sizeof(attr)
	ruleset, _, errno := syscall.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, uintptr(unsafe.Pointer(&attr)), size, 0)
	if errno != 0 {
		return errno
	}
	defer unix.Close(int(ruleset))
	for _, path := range readable() {
		if err := allow(int(ruleset), path, unix.LANDLOCK_ACCESS_FS_READ_FILE); err != nil {
			return err
		}
	}
	// Its own sockets go away with it.
	if err := allow(int(ruleset), sockets, unix.LANDLOCK_ACCESS_FS_REMOVE_FILE); err != nil {
		return err
	}
	told.Landlock = int(version)
	return onAllThreads(unix.SYS_LANDLOCK_RESTRICT_SELF, ruleset, 0, 0)
}

// allow gives a right to a file or what is below a folder; what is not there needs no right.
func allow(ruleset int, path string, right uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer unix.Close(fd)
	rule := unix.LandlockPathBeneathAttr{Allowed_access: right, Parent_fd: int32(fd)}
	_, _, errno := syscall.Syscall6(unix.SYS_LANDLOCK_ADD_RULE, uintptr(ruleset), unix.LANDLOCK_RULE_PATH_BENEATH,
		uintptr(unsafe.Pointer(&rule)), 0, 0, 0)
	if errno != 0 {
		return fmt.Errorf("%s: %w", path, errno)
	}
	return nil
}
