//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Addresses of the cluster's own network: what stays inside of the machine lives on.
var (
	podsAndServices = &net.IPNet{IP: net.IPv4(10, 42, 0, 0), Mask: net.CIDRMask(15, 32)}
	// What came through a node port seems, in a pod, to come from the bridge.
	podBridge = net.IPv4(10, 42, 0, 1)
)

// cutConnections resets the TCP connections that left the machine: their other ends are gone after a restore, and nothing
// would ever come from there. It looks in this network namespace and in those of the pods.
func cutConnections() error {
	errs := []error{cutIn("", false)}
	pods, _ := filepath.Glob("/run/netns/*")
	for _, path := range pods {
		errs = append(errs, cutIn(path, true))
	}
	return errors.Join(errs...)
}

// cutIn does it in the namespace of a file, or in the current one.
func cutIn(path string, pod bool) error {
	done := make(chan error)
	go func() {
		// The thread stays in the other namespace, so it is not given back: it ends with the goroutine.
		runtime.LockOSThread()
		done <- func() error {
			if path != "" {
				handle, err := netns.GetFromPath(path)
				if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.EINVAL) {
					return nil // the pod is gone, and only its file is left
				}
				if err != nil {
					return err
				}
				defer handle.Close()
				if err := netns.Set(handle); err != nil {
					return err
				}
			}
			return cutHere(pod)
		}()
	}()
	return <-done
}

func cutHere(pod bool) error {
	var errs []error
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		sockets, err := netlink.SocketDiagTCP(family)
		if err != nil {
			return err
		}
		for _, socket := range sockets {
			if isOpen(socket.State) && leavesMachine(socket.ID.Source, socket.ID.Destination, pod) {
				errs = append(errs, destroy(socket))
			}
		}
	}
	return errors.Join(errs...)
}

func isOpen(state uint8) bool {
	return state != netlink.TCP_LISTEN && state != netlink.TCP_TIME_WAIT && state != netlink.TCP_CLOSE
}

// leavesMachine tells whether the other end of a connection is outside of the machine.
func leavesMachine(local, remote net.IP, pod bool) bool {
	if pod && remote.Equal(podBridge) {
		return true
	}
	return !remote.IsLoopback() && !remote.IsUnspecified() && !remote.Equal(local) && !podsAndServices.Contains(remote)
}

// destroy asks the kernel to reset one socket.
func destroy(socket *netlink.Socket) error {
	request := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
	request.AddData(destroyRequest(*socket))
	_, err := request.Execute(unix.NETLINK_INET_DIAG, 0)
	if errors.Is(err, unix.ENOENT) {
		return nil // it has ended meanwhile
	}
	return err
}

// destroyRequest is the kernel's struct inet_diag_req_v2.
type destroyRequest netlink.Socket

func (d destroyRequest) Len() int { return 56 }

func (d destroyRequest) Serialize() []byte {
	out := make([]byte, d.Len())
	out[0], out[1] = d.Family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(out[4:], 0xffffffff) // in any state
	binary.BigEndian.PutUint16(out[8:], d.ID.SourcePort)
	binary.BigEndian.PutUint16(out[10:], d.ID.DestinationPort)
	putAddress(out[12:28], d.Family, d.ID.Source)
	putAddress(out[28:44], d.Family, d.ID.Destination)
	binary.NativeEndian.PutUint32(out[44:], d.ID.Interface)
	binary.NativeEndian.PutUint32(out[48:], d.ID.Cookie[0])
	binary.NativeEndian.PutUint32(out[52:], d.ID.Cookie[1])
	return out
}

func putAddress(into []byte, family uint8, ip net.IP) {
	if family == unix.AF_INET {
		copy(into, ip.To4())
		return
	}
	copy(into, ip.To16())
}
