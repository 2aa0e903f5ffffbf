//go:build linux

package verify

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// onThread runs work on a thread of its own that ends with it: what it does to its namespaces, keys
// or filters reaches nothing else.
func onThread(work func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: a goroutine that ends locked takes its thread along
		done <- work()
	}()
	return <-done
}

// space is a network namespace without a name; it goes when it is closed and nothing is in it.
type space struct {
	ns   netns.NsHandle
	link *netlink.Handle
}

func newSpace() (*space, error) {
	s := &space{}
	err := onThread(func() (err error) {
		s.ns, err = netns.New()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("a new network namespace: %w", err)
	}
	s.link, err = netlink.NewHandleAt(s.ns, unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
	if err != nil {
		s.ns.Close()
		return nil, err
	}
	if lo, err := s.link.LinkByName("lo"); err == nil {
		_ = s.link.LinkSetUp(lo)
	}
	return s, nil
}

func (s *space) close() {
	s.link.Close()
	s.ns.Close()
}

// inside runs work on a thread in the namespace.
func (s *space) inside(work func() error) error {
	return onThread(func() error {
		if err := netns.Set(s.ns); err != nil {
			return err
		}
		return work()
	})
}

// withSpaces makes namespaces and closes them after the work.
func withSpaces(count int, work func(spaces []*space) (string, error)) (string, error) {
	spaces := make([]*space, 0, count)
	defer func() {
		for _, s := range spaces {
			s.close()
		}
	}()
	for range count {
		s, err := newSpace()
		if err != nil {
			return "", err
		}
		spaces = append(spaces, s)
	}
	return work(spaces)
}

// sysctl sets a value of /proc/sys as the namespace sees it.
func (s *space) sysctl(name, value string) error {
	return s.inside(func() error { return os.WriteFile("/proc/sys/"+name, []byte(value), 0) })
}

// up gives a device an address, "" for none, and turns it on.
func (s *space) up(name, cidr string) error {
	device, err := s.link.LinkByName(name)
	if err != nil {
		return err
	}
	if cidr != "" {
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		if err := s.link.AddrAdd(device, addr); err != nil {
			return fmt.Errorf("address %s on %s: %w", cidr, name, err)
		}
	}
	return s.link.LinkSetUp(device)
}

// defaultRoute sends what is not local to the address.
func (s *space) defaultRoute(via string) error {
	return s.link.RouteAdd(&netlink.Route{Gw: net.ParseIP(via)})
}

// cable lays a veth pair from s to other; both ends are up.
func (s *space) cable(name, cidr string, other *space, otherName, otherCidr string) error {
	pair := &netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: otherName, PeerNamespace: netlink.NsFd(int(other.ns)),
	}
	if err := s.link.LinkAdd(pair); err != nil {
		return fmt.Errorf("a veth pair: %w", err)
	}
	if err := other.up(otherName, otherCidr); err != nil {
		return err
	}
	return s.up(name, cidr)
}

// nft loads a rule set with the image's nft program, as kube-proxy does.
func (s *space) nft(rules string) error {
	program, err := exec.LookPath("nft")
	if err != nil {
		return errors.New("the image has no nft program")
	}
	return s.inside(func() error {
		command := exec.Command(program, "-f", "-")
		command.Stdin = strings.NewReader(rules)
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("nft: %s", firstLine(out, err))
		}
		return nil
	})
}

func firstLine(out []byte, err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	if line == "" {
		return err.Error()
	}
	return line
}

// echoServer answers every datagram with the address it came from, until it is closed.
func (s *space) echoServer(address string) (net.PacketConn, error) {
	var conn net.PacketConn
	err := s.inside(func() (err error) {
		conn, err = net.ListenPacket("udp4", address)
		return err
	})
	if err != nil {
		return nil, err
	}
	go func() {
		buffer := make([]byte, 64)
		for {
			_, from, err := conn.ReadFrom(buffer)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo([]byte(from.String()), from)
		}
	}()
	return conn, nil
}

// ask sends datagrams to an echo server until one is answered, and returns the host that the server saw.
func (s *space) ask(address string) (string, error) {
	// A busy host can take a second for what takes milliseconds elsewhere.
	return s.askWithin(address, 5, time.Second)
}

func (s *space) askWithin(address string, tries int, wait time.Duration) (string, error) {
	var conn net.Conn
	err := s.inside(func() (err error) {
		conn, err = net.Dial("udp4", address)
		return err
	})
	if err != nil {
		return "", err
	}
	defer conn.Close()
	buffer := make([]byte, 64)
	var last error
	for range tries {
		_ = conn.SetDeadline(time.Now().Add(wait))
		if _, last = conn.Write([]byte("?")); last != nil {
			continue
		}
		n, err := conn.Read(buffer)
		if err == nil {
			seen, _, _ := net.SplitHostPort(string(buffer[:n]))
			return seen, nil
		}
		last = err
	}
	return "", fmt.Errorf("no answer from %s: %w", address, last)
}

// exchange is one question of s to a server in other that listens on its address.
func (s *space) exchange(other *space, listen, target string) (string, error) {
	server, err := other.echoServer(listen)
	if err != nil {
		return "", err
	}
	defer server.Close()
	return s.ask(target)
}
