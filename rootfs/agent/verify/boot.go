//go:build linux

package verify

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

func bootChecks() map[string]check {
	return map[string]check{
		"boot.config":     bootConfig,
		"boot.root":       bootRoot,
		"boot.namespaces": bootNamespaces,
		"boot.userns":     bootUserns,
		"boot.seccomp":    bootSeccomp,
		"boot.keyring":    bootKeyring,
		"boot.inotify":    bootInotify,
		"boot.unix":       bootUnix,
	}
}

func bootConfig(Host) (string, error) {
	file, err := os.Open("/proc/config.gz")
	if err != nil {
		return "", err
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(unpacked)
	return fmt.Sprintf("%d options are on", bytes.Count(text, []byte("=y\n"))), err
}

func bootRoot(Host) (string, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs("/", &stat); err != nil {
		return "", err
	}
	if stat.Type != unix.EROFS_SUPER_MAGIC_V1 {
		return "", fmt.Errorf("the root is no EROFS (magic %#x)", stat.Type)
	}
	err := os.WriteFile("/gateway-verify", nil, 0o600)
	if !errors.Is(err, unix.EROFS) {
		return "", fmt.Errorf("writing to the root gave %v", err)
	}
	return "the root is EROFS and refuses to be written", nil
}

// bootNamespaces starts one program per kind and compares the namespace it finds itself in with ours.
func bootNamespaces(Host) (string, error) {
	for kind, flag := range map[string]uintptr{
		"mnt": unix.CLONE_NEWNS, "net": unix.CLONE_NEWNET, "pid": unix.CLONE_NEWPID,
		"ipc": unix.CLONE_NEWIPC, "uts": unix.CLONE_NEWUTS, "cgroup": unix.CLONE_NEWCGROUP,
	} {
		ours, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			return "", err
		}
		command := exec.Command("readlink", "/proc/thread-self/ns/"+kind)
		if kind == "pid" {
			// In a new one /proc still shows the old numbers; what the next child gets is told by its parent.
			command = exec.Command("sh", "-c", "echo pid:$$")
		}
		command.SysProcAttr = &syscall.SysProcAttr{Cloneflags: flag}
		out, err := command.CombinedOutput()
		theirs := strings.TrimSpace(string(out))
		if err != nil {
			return "", fmt.Errorf("a new %s namespace: %s", kind, firstLine(out, err))
		}
		if theirs == ours || (kind == "pid" && theirs != "pid:1") {
			return "", fmt.Errorf("the %s namespace of a new process is %s", kind, theirs)
		}
	}
	return "a process was alone in each of six", nil
}

func bootUserns(Host) (string, error) {
	command := exec.Command("cat", "/proc/self/uid_map")
	command.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100_000, Size: 1000}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 100_000, Size: 1000}},
		Credential:  &syscall.Credential{NoSetGroups: true},
	}
	out, err := command.CombinedOutput()
	if err != nil {
		return "", errors.New(firstLine(out, err))
	}
	if fields := strings.Fields(string(out)); len(fields) != 3 || fields[1] != "100000" {
		return "", fmt.Errorf("the map is %q", out)
	}
	return "root of a pod was user 100000 outside", nil
}

// bootSeccomp forbids uname to one thread and lets it try.
func bootSeccomp(Host) (string, error) {
	filter := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // the number of the call
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_UNAME, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	program := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	return "a forbidden call gave EPERM", onThread(func() error {
		if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
			return err
		}
		_, _, errno := unix.RawSyscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&program)))
		if errno != 0 {
			return fmt.Errorf("seccomp: %w", errno)
		}
		var name unix.Utsname
		if err := unix.Uname(&name); !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("a forbidden call gave %v", err)
		}
		return nil
	})
}

func bootKeyring(Host) (string, error) {
	return "a session keyring kept a key", onThread(func() error {
		if _, err := unix.KeyctlJoinSessionKeyring("gateway-verify"); err != nil {
			return err
		}
		id, err := unix.AddKey("user", "gateway-verify", []byte("kept"), unix.KEY_SPEC_SESSION_KEYRING)
		if err != nil {
			return err
		}
		buffer := make([]byte, 8)
		n, err := unix.KeyctlBuffer(unix.KEYCTL_READ, id, buffer, 0)
		if err == nil && string(buffer[:n]) != "kept" {
			return fmt.Errorf("it kept %q", buffer[:n])
		}
		return err
	})
}

func bootInotify(Host) (string, error) {
	dir, err := os.MkdirTemp("", "gateway-verify-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(dir)
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE); err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "new"), nil, 0o600); err != nil {
		return "", err
	}
	if err := readable(fd, 2000); err != nil {
		return "", err
	}
	buffer := make([]byte, 256)
	n, err := unix.Read(fd, buffer)
	if err == nil && !bytes.Contains(buffer[:n], []byte("new")) {
		return "", errors.New("the event does not name the new file")
	}
	return "a new file was told", err
}

// readable waits until a descriptor has something to read.
func readable(fd, timeoutMs int) error {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	for {
		n, err := unix.Poll(fds, timeoutMs)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err == nil && n == 0 {
			err = fmt.Errorf("nothing came within %d ms", timeoutMs)
		}
		return err
	}
}

// bootUnix passes a descriptor, as containerd does with the streams of a container.
func bootUnix(Host) (string, error) {
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(pair[0])
	defer unix.Close(pair[1])
	if err := unix.Sendmsg(pair[0], []byte("x"), unix.UnixRights(pair[0]), nil, 0); err != nil {
		return "", err
	}
	data, control := make([]byte, 1), make([]byte, 64)
	_, n, _, _, err := unix.Recvmsg(pair[1], data, control, unix.MSG_CMSG_CLOEXEC)
	if err != nil {
		return "", err
	}
	messages, err := unix.ParseSocketControlMessage(control[:n])
	if err != nil || len(messages) != 1 {
		return "", fmt.Errorf("%d control messages came: %v", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	for _, fd := range fds {
		unix.Close(fd)
	}
	return "a descriptor was passed", err
}
