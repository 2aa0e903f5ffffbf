//go:build linux

package verify

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

func deviceChecks() map[string]check {
	return map[string]check{
		"tun.packet":        tunPacket,
		"ipvs.service":      ipvsService,
		"vsock.listen":      vsockListen,
		"entropy.getrandom": entropyGetrandom,
		"entropy.device":    entropyDevice,
	}
}

// tunPacket sends a datagram into a tun device and reads it on the other side, as a VPN does.
func tunPacket(Host) (string, error) {
	return withSpaces(1, func(s []*space) (string, error) {
		fd := -1
		err := s[0].inside(func() (err error) {
			if fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0); err != nil {
				return err
			}
			request, err := unix.NewIfreq("tun0")
			if err != nil {
				return err
			}
			request.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
			return unix.IoctlIfreq(fd, unix.TUNSETIFF, request)
		})
		if fd >= 0 {
			defer unix.Close(fd)
		}
		if err != nil {
			return "", err
		}
		if err := s[0].up("tun0", "10.79.0.1/24"); err != nil {
			return "", err
		}
		err = s[0].inside(func() error {
			conn, err := net.Dial("udp4", "10.79.0.2:9")
			if err != nil {
				return err
			}
			defer conn.Close()
			_, err = conn.Write([]byte("through the tunnel"))
			return err
		})
		if err != nil {
			return "", err
		}
		return "a datagram came out of the device", readPacket(fd, "through the tunnel")
	})
}

func readPacket(fd int, text string) error {
	buffer := make([]byte, 2048)
	for range 20 { // the kernel sends packets of its own there, too
		if err := readable(fd, 2000); err != nil {
			return err
		}
		n, err := unix.Read(fd, buffer)
		if err != nil {
			return err
		}
		if strings.Contains(string(buffer[:n]), text) {
			return nil
		}
	}
	return errors.New("other packets came, but not ours")
}

// The words of the kernel's IPVS interface (linux/ip_vs.h).
const (
	ipvsNewService     = 1
	ipvsAttrService    = 1
	ipvsServiceAF      = 1
	ipvsServiceProto   = 2
	ipvsServiceAddr    = 3
	ipvsServicePort    = 4
	ipvsServiceSched   = 6
	ipvsServiceFlags   = 7
	ipvsServiceTimeout = 8
	ipvsServiceNetmask = 9
)

func ipvsService(Host) (string, error) {
	return withSpaces(1, func(s []*space) (string, error) {
		table := ""
		err := s[0].inside(func() error {
			family, err := netlink.GenlFamilyGet("IPVS")
			if err != nil {
				return err
			}
			request := nl.NewNetlinkRequest(int(family.ID), unix.NLM_F_ACK)
			request.AddData(&nl.Genlmsg{Command: ipvsNewService, Version: 1})
			request.AddData(ipvsServiceAttr())
			if _, err := request.Execute(unix.NETLINK_GENERIC, 0); err != nil {
				return fmt.Errorf("a virtual service: %w", err)
			}
			text, err := os.ReadFile("/proc/thread-self/net/ip_vs")
			table = string(text)
			return err
		})
		if err == nil && !strings.Contains(table, "0A60000A:0050 rr") {
			err = fmt.Errorf("the table does not have it: %q", table)
		}
		return "a virtual service with scheduler rr is in the table", err
	})
}

func ipvsServiceAttr() *nl.RtAttr {
	address := make([]byte, 16)
	copy(address, net.ParseIP(service).To4())
	port := binary.BigEndian.AppendUint16(nil, 80)
	attr := nl.NewRtAttr(ipvsAttrService|unix.NLA_F_NESTED, nil)
	attr.AddRtAttr(ipvsServiceAF, nl.Uint16Attr(unix.AF_INET))
	attr.AddRtAttr(ipvsServiceProto, nl.Uint16Attr(unix.IPPROTO_TCP))
	attr.AddRtAttr(ipvsServiceAddr, address)
	attr.AddRtAttr(ipvsServicePort, port)
	attr.AddRtAttr(ipvsServiceSched, nl.ZeroTerminated("rr"))
	attr.AddRtAttr(ipvsServiceFlags, make([]byte, 8))
	attr.AddRtAttr(ipvsServiceTimeout, nl.Uint32Attr(0))
	attr.AddRtAttr(ipvsServiceNetmask, nl.Uint32Attr(0xffffffff))
	return attr
}

func vsockListen(Host) (string, error) {
	fd, err := unix.Socket(unix.AF_VSOCK, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	defer unix.Close(fd)
	any := &unix.SockaddrVM{CID: unix.VMADDR_CID_ANY, Port: unix.VMADDR_PORT_ANY}
	if err := unix.Bind(fd, any); err != nil {
		return "", err
	}
	if err := unix.Listen(fd, 1); err != nil {
		return "", err
	}
	device, err := os.Open("/dev/vsock")
	if err != nil {
		return "", err
	}
	defer device.Close()
	cid, err := unix.IoctlGetInt(int(device.Fd()), unix.IOCTL_VM_SOCKETS_GET_LOCAL_CID)
	if err != nil {
		return "a socket listens; this VM has no vsock device", nil
	}
	return fmt.Sprintf("a socket listens; this VM has the number %d", uint32(cid)), nil
}

func entropyGetrandom(Host) (string, error) {
	first, second := make([]byte, 32), make([]byte, 32)
	for _, buffer := range [][]byte{first, second} {
		if n, err := unix.Getrandom(buffer, unix.GRND_NONBLOCK); err != nil || n != len(buffer) {
			return "", fmt.Errorf("getrandom gave %d bytes: %v", n, err)
		}
	}
	if string(first) == string(second) {
		return "", errors.New("two reads gave the same bytes")
	}
	return "the generator is seeded", nil
}

func entropyDevice(Host) (string, error) {
	device, err := os.Open("/dev/hwrng")
	if err != nil {
		return "", err
	}
	defer device.Close()
	n, err := device.Read(make([]byte, 16))
	return fmt.Sprintf("%d bytes came from the host", n), err
}

func clockChecks() map[string]check {
	return map[string]check{
		"clock.monotonic": clockMonotonic,
		"clock.timers":    clockTimers,
		"clock.wall":      clockWall,
	}
}

func clockMonotonic(Host) (string, error) {
	var before, now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &before)
	first := before
	for range 10_000 {
		if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
			return "", err
		}
		if now.Nano() < before.Nano() {
			return "", fmt.Errorf("it went back by %d ns", before.Nano()-now.Nano())
		}
		before = now
	}
	if now.Nano() == first.Nano() {
		return "", errors.New("it stands still")
	}
	source, _ := os.ReadFile("/sys/devices/system/clocksource/clocksource0/current_clocksource")
	return "10000 readings never went back; source " + strings.TrimSpace(string(source)), nil
}

// clockTimers takes the best of several sleeps: a busy host makes single ones late.
func clockTimers(Host) (string, error) {
	best := time.Hour
	for range 40 {
		start := time.Now()
		request := unix.NsecToTimespec(int64(time.Millisecond))
		_ = unix.Nanosleep(&request, nil)
		best = min(best, time.Since(start))
	}
	if best > 6*time.Millisecond {
		return "", fmt.Errorf("the shortest sleep of 1 ms took %v", best)
	}
	return fmt.Sprintf("the shortest sleep of 1 ms took %v", best.Round(10*time.Microsecond)), nil
}

// wallTolerance covers the way of the host's words through ssh on a busy machine.
const wallTolerance = 30 * time.Second

func clockWall(host Host) (string, error) {
	if host.Time.IsZero() {
		return "", skip{"the host's time was not told"}
	}
	apart := time.Since(host.Time).Round(time.Millisecond)
	if apart.Abs() > wallTolerance {
		return "", fmt.Errorf("it is %v off the host's", apart)
	}
	return fmt.Sprintf("within %v of the host's", apart.Abs()), nil
}
