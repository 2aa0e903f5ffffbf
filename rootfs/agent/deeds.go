//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// parseClock reads "<unix seconds>[.<up to 9 decimals>]" without a detour through floating point,
// which has not enough digits for nanoseconds.
func parseClock(text string) (unix.Timespec, error) {
	var out unix.Timespec
	whole, fraction, _ := strings.Cut(strings.TrimSpace(text), ".")
	seconds, err := strconv.ParseUint(whole, 10, 40)
	if err != nil || len(fraction) > 9 {
		return out, fmt.Errorf("%q is not a time in seconds", text)
	}
	nanoseconds, err := strconv.ParseUint((fraction + "000000000")[:9], 10, 32)
	if err != nil {
		return out, fmt.Errorf("%q is not a time in seconds", text)
	}
	return unix.Timespec{Sec: int64(seconds), Nsec: int64(nanoseconds)}, nil
}

// setClock sets the wall clock and returns by how much it was moved.
func setClock(text string) (time.Duration, error) {
	wanted, err := parseClock(text)
	if err != nil {
		return 0, err
	}
	offset := time.Until(time.Unix(wanted.Unix()))
	if err := unix.ClockSettime(unix.CLOCK_REALTIME, &wanted); err != nil {
		return 0, fmt.Errorf("clock_settime: %w", err)
	}
	return offset, nil
}

// reseed mixes the host's bytes into the kernel's pool, credits them, and makes the generator take
// its next output from there: two clones of one snapshot differ from here on.
func reseed(seed string) error {
	entropy, err := hex.DecodeString(seed)
	if err != nil || len(entropy) < 32 || len(entropy) > 512 {
		return fmt.Errorf("the seed is not 32 to 512 bytes in hexadecimal")
	}
	device, err := os.OpenFile("/dev/urandom", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer device.Close()
	// struct rand_pool_info {int entropy_count; int buf_size; __u32 buf[];}
	info := make([]byte, 8, 8+len(entropy))
	binary.NativeEndian.PutUint32(info, uint32(len(entropy)*8))
	binary.NativeEndian.PutUint32(info[4:], uint32(len(entropy)))
	info = append(info, entropy...)
	if err := ioctl(device, unix.RNDADDENTROPY, unsafe.Pointer(&info[0])); err != nil {
		return fmt.Errorf("RNDADDENTROPY: %w", err)
	}
	if err := ioctl(device, unix.RNDRESEEDCRNG, nil); err != nil {
		return fmt.Errorf("RNDRESEEDCRNG: %w", err)
	}
	return nil
}

const (
	thawProgram = "/usr/lib/gateway/thaw"
	// thawLimit bounds it: the agent answers nothing else meanwhile.
	thawLimit = 30 * time.Second
)

// thaw runs the guest's own script for a memory that went on after a save; words say what else it does.
func thaw(words ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), thawLimit)
	defer cancel()
	command := exec.CommandContext(ctx, thawProgram, words...)
	// A file, not a pipe: what it leaves running in the background would keep a pipe open.
	log, err := os.OpenFile("/run/gateway/thaw.log", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	command.Stdout, command.Stderr = log, log
	if err := command.Run(); err != nil {
		words, _ := os.ReadFile(log.Name())
		return fmt.Errorf("%s: %w: %s", thawProgram, err, strings.TrimSpace(string(words)))
	}
	return nil
}

func ioctl(file *os.File, request uintptr, argument unsafe.Pointer) error {
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, file.Fd(), request, uintptr(argument))
	if errno != 0 {
		return errno
	}
	return nil
}
