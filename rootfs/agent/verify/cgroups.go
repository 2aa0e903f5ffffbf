//go:build linux

package verify

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const cgroupRoot = "/sys/fs/cgroup"

func cgroupChecks() map[string]check {
	return map[string]check{
		"cgroups.v2":      cgroupsV2,
		"cgroups.memory":  cgroupsMemory,
		"cgroups.pids":    cgroupsPids,
		"cgroups.cpu":     cgroupsCPU,
		"cgroups.weight":  cgroupsWeight,
		"cgroups.cpuset":  cgroupsCpuset,
		"cgroups.devices": cgroupsDevices,
		"cgroups.io":      cgroupsIO,
	}
}

// group is a control group of a check.
type group struct{ path string }

// inGroup makes a group, works in it, ends what is left in it and removes it.
func inGroup(name string, work func(g group) (string, error)) (string, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(cgroupRoot, &stat); err != nil || stat.Type != unix.CGROUP2_SUPER_MAGIC {
		return "", fmt.Errorf("%s is no cgroup version 2", cgroupRoot)
	}
	g := group{filepath.Join(cgroupRoot, "gateway-verify-"+name)}
	if err := os.Mkdir(g.path, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	defer g.remove()
	return work(g)
}

func (g group) remove() {
	_ = g.set("cgroup.kill", "1")
	for range 50 {
		if err := os.Remove(g.path); err == nil || errors.Is(err, os.ErrNotExist) {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (g group) set(file, value string) error {
	return os.WriteFile(filepath.Join(g.path, file), []byte(value), 0)
}

// count returns a number of a file of "name number" lines.
func (g group) count(file, name string) (int, error) {
	text, err := os.ReadFile(filepath.Join(g.path, file))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) == 2 && fields[0] == name {
			return strconv.Atoi(fields[1])
		}
	}
	return 0, fmt.Errorf("%s has no %s", file, name)
}

// start runs a program in the group from its first instruction on.
func (g group) start(words ...string) (*exec.Cmd, error) {
	dir, err := os.Open(g.path)
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	command := exec.Command(words[0], words[1:]...)
	command.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	return command, command.Start()
}

func end(command *exec.Cmd) {
	_ = command.Process.Kill()
	_ = command.Wait()
}

func cgroupsV2(Host) (string, error) {
	return inGroup("v2", func(g group) (string, error) {
		text, err := os.ReadFile(filepath.Join(g.path, "cgroup.controllers"))
		have := " " + strings.TrimSpace(string(text)) + " "
		for _, name := range []string{"cpu", "cpuset", "memory", "pids"} {
			if err == nil && !strings.Contains(have, " "+name+" ") {
				err = fmt.Errorf("the controller %s is not handed down", name)
			}
		}
		return "a group has" + strings.TrimRight(have, " "), err
	})
}

// GreedyChild is the process that asks for more memory than its group may have.
func GreedyChild() {
	hoard := make([][]byte, 0, 64)
	for range 64 {
		piece := make([]byte, 1<<20)
		for at := 0; at < len(piece); at += 4096 {
			piece[at] = 1
		}
		hoard = append(hoard, piece)
	}
	runtime.KeepAlive(hoard)
}

func cgroupsMemory(Host) (string, error) {
	return inGroup("memory", func(g group) (string, error) {
		if err := g.set("memory.max", "16777216"); err != nil {
			return "", err
		}
		_ = g.set("memory.swap.max", "0")
		self, err := os.Executable()
		if err != nil {
			return "", err
		}
		command, err := g.start(self, "verify", "-child", "greedy")
		if err != nil {
			return "", err
		}
		err = command.Wait()
		kills, countErr := g.count("memory.events", "oom_kill")
		if countErr != nil || kills == 0 {
			return "", fmt.Errorf("a process took 64 MiB of 16 (%v, %v)", err, countErr)
		}
		return "a process that took too much was killed", nil
	})
}

func cgroupsPids(Host) (string, error) {
	return inGroup("pids", func(g group) (string, error) {
		if err := g.set("pids.max", "1"); err != nil {
			return "", err
		}
		command, err := g.start("sh", "-c", "sleep 0 & wait")
		if err != nil {
			return "", err
		}
		_ = command.Wait()
		refused, err := g.count("pids.events", "max")
		if err == nil && refused == 0 {
			err = errors.New("a second process was allowed")
		}
		return "a second process was refused", err
	})
}

func cgroupsCPU(Host) (string, error) {
	return inGroup("cpu", func(g group) (string, error) {
		if err := g.set("cpu.max", "2000 20000"); err != nil {
			return "", err
		}
		command, err := g.start("sh", "-c", "while :; do :; done")
		if err != nil {
			return "", err
		}
		defer end(command)
		for range 50 {
			time.Sleep(20 * time.Millisecond)
			if throttled, err := g.count("cpu.stat", "nr_throttled"); err != nil || throttled > 0 {
				return fmt.Sprintf("a busy process was held back %d times", throttled), err
			}
		}
		return "", errors.New("a busy process was not held back within a second")
	})
}

func cgroupsWeight(Host) (string, error) {
	return inGroup("weight", func(g group) (string, error) {
		if err := g.set("cpu.weight", "777"); err != nil {
			return "", err
		}
		text, err := os.ReadFile(filepath.Join(g.path, "cpu.weight"))
		if got := strings.TrimSpace(string(text)); err == nil && got != "777" {
			err = fmt.Errorf("the weight is %s", got)
		}
		return "a group took a weight", err
	})
}

func cgroupsCpuset(Host) (string, error) {
	return inGroup("cpuset", func(g group) (string, error) {
		if err := g.set("cpuset.cpus", "0"); err != nil {
			return "", err
		}
		command, err := g.start("sleep", "20")
		if err != nil {
			return "", err
		}
		defer end(command)
		var set unix.CPUSet
		if err := unix.SchedGetaffinity(command.Process.Pid, &set); err != nil {
			return "", err
		}
		if set.Count() != 1 || !set.IsSet(0) {
			return "", fmt.Errorf("a process may run on %d CPUs", set.Count())
		}
		return "a process may run on CPU 0 only", nil
	})
}

// cgroupsDevices attaches the program that forbids every device, as runc does with a finer one.
func cgroupsDevices(Host) (string, error) {
	return inGroup("devices", func(g group) (string, error) {
		program, err := loadDenyAll()
		if err != nil {
			return "", fmt.Errorf("a device program: %w", err)
		}
		defer unix.Close(program)
		dir, err := os.Open(g.path)
		if err != nil {
			return "", err
		}
		defer dir.Close()
		attach := struct{ target, program, kind, flags uint32 }{uint32(dir.Fd()), uint32(program), unix.BPF_CGROUP_DEVICE, 0}
		if _, err := bpf(unix.BPF_PROG_ATTACH, unsafe.Pointer(&attach), unsafe.Sizeof(attach)); err != nil {
			return "", fmt.Errorf("attaching it to a group: %w", err)
		}
		command, err := g.start("sh", "-c", ": >/dev/zero")
		if err != nil {
			return "", err
		}
		if command.Wait() == nil {
			return "", errors.New("a forbidden device was opened")
		}
		return "a forbidden device was refused", nil
	})
}

func loadDenyAll() (int, error) {
	// r0 = 0; exit. Eight bytes an instruction: code, registers, offset, immediate.
	code := []uint64{unix.BPF_ALU64 | unix.BPF_MOV | unix.BPF_K, unix.BPF_JMP | unix.BPF_EXIT}
	license := []byte("Apache-2.0\x00")
	load := struct {
		kind, count   uint32
		code, license uint64
		rest          [96]byte
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, count: uint32(len(code)),
		code: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, err := bpf(unix.BPF_PROG_LOAD, unsafe.Pointer(&load), unsafe.Sizeof(load))
	runtime.KeepAlive(code)
	runtime.KeepAlive(license)
	return fd, err
}

func bpf(command int, attr unsafe.Pointer, size uintptr) (int, error) {
	fd, _, errno := unix.Syscall(unix.SYS_BPF, uintptr(command), uintptr(attr), size)
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

func cgroupsIO(Host) (string, error) {
	return inGroup("io", func(g group) (string, error) {
		numbers, err := os.ReadFile("/sys/class/block/vda/dev")
		if err != nil {
			return "", skip{"there is no disk vda"}
		}
		limit := strings.TrimSpace(string(numbers)) + " rbps=1048576"
		if err := g.set("io.max", limit); err != nil {
			return "", err
		}
		text, err := os.ReadFile(filepath.Join(g.path, "io.max"))
		if err == nil && !strings.HasPrefix(string(text), limit) {
			err = fmt.Errorf("io.max is %q", text)
		}
		return "a group took a limit for the root disk", err
	})
}
