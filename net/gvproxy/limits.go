package main

import (
	"fmt"
	"runtime/debug"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// What one guest can make this program hold, whatever root in the guest does. The descriptors add up to
// 1920 of maxDescriptors; the rest is for listeners, the API and the VMM.
const (
	// maxConnections bounds the TCP connections that a guest opens, to the world and to host services:
	// those being dialled and those that the guest has not finished closing are counted too.
	maxConnections = 1024
	// maxServiceConnections bounds those to host services.
	maxServiceConnections = 256
	// maxForwarded bounds the TCP connections that clients on the host open to the guest.
	maxForwarded = 256
	// maxUDPFlows bounds the UDP flows of both directions.
	maxUDPFlows = 512
	// maxLookups bounds the DNS questions that are being answered; each has at most one socket.
	maxLookups = 128
	// maxDNSConnections bounds the TCP connections to the gateway's DNS. They have no socket on the host.
	maxDNSConnections = 64

	// maxDescriptors is the limit that the process gives itself.
	maxDescriptors = 2048
	// memoryTarget is what Go's runtime tries to stay below; the limit that is promised is 100 MiB.
	memoryTarget = 64 << 20
)

const (
	// maxTCPBuffer bounds the memory of one direction of a TCP connection to the guest.
	maxTCPBuffer = 512 << 10
	// minTCPBuffer is the least that the stack accepts.
	minTCPBuffer = 4 << 10
	// tcpBufferBudget is divided by the number of connections to get the buffers of the next one, so
	// that the first few are fast and all of them together stay below 16 MiB in each direction.
	tcpBufferBudget = 2 << 20
	// startTCPBuffer is the buffer of a connection before it is known how many there are.
	startTCPBuffer = 32 << 10
	maxCopyBuffer  = 32 << 10
	// closeTimeout is how long a guest may take to finish a connection that was closed. A connection
	// that it does not finish is counted until then, and reset.
	closeTimeout = 60 * time.Second
	// timeWait is short because frames of the virtual link neither come late nor twice.
	timeWait = 500 * time.Millisecond
)

// tcpBuffer returns the buffer size, for each direction, of a connection that makes it so many.
func tcpBuffer(connections int) int {
	return min(maxTCPBuffer, max(minTCPBuffer, tcpBufferBudget/max(1, connections)))
}

// copyBuffer is the size of the buffer that relays a connection, for each direction.
func copyBuffer(connections int) int {
	return min(maxCopyBuffer, max(minTCPBuffer, tcpBuffer(connections)/4))
}

// limitProcess sets the limits of this process. They hold until it ends.
func limitProcess() error {
	// The live heap is a few MiB; collecting earlier than Go's default keeps what bulk transfers
	// leave behind small.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(memoryTarget)
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		return fmt.Errorf("cannot read the limit of open files: %w", err)
	}
	bound := min(now.Max, maxDescriptors)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: bound, Max: bound}); err != nil {
		return fmt.Errorf("cannot limit open files: %w", err)
	}
	return nil
}

// limitStack sets what the stack's TCP may hold for connections that have no size of their own.
func limitStack(s *stack.Stack) tcpip.Error {
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: minTCPBuffer, Default: startTCPBuffer, Max: maxTCPBuffer}
	if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, &receive); err != nil {
		return err
	}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: minTCPBuffer, Default: startTCPBuffer, Max: maxTCPBuffer}
	if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, &send); err != nil {
		return err
	}
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	return s.SetTransportProtocolOption(tcp.ProtocolNumber, &wait)
}

// guestConn is a connection that the guest opened.
type guestConn struct {
	*gonet.TCPConn
	endpoint tcpip.Endpoint
}

// settle waits until the guest has finished the closed connection too, at most closeTimeout. The stack
// keeps a connection that the guest does not finish, and nobody else counts it.
func (c *guestConn) settle() {
	pause := time.Millisecond
	for deadline := time.Now().Add(closeTimeout); time.Now().Before(deadline); pause = min(2*pause, time.Second) {
		switch tcp.EndpointState(c.endpoint.State()) {
		case tcp.StateClose, tcp.StateError, tcp.StateTimeWait:
			return
		}
		time.Sleep(pause)
	}
	c.endpoint.Abort()
}
