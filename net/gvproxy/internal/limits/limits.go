// Package limits says what one guest can make this program hold, whatever root in the guest does, and binds the process
// and its network stack to that. No setting may change it.
package limits

import (
	"fmt"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// The descriptors add up to 1920 of MaxDescriptors; the rest is for listeners, the API and the VMM.
const (
	// MaxConnections bounds the TCP connections that a guest opens, to the world and to host services:
	// those being dialled and those that the guest has not finished closing are counted too.
	MaxConnections = 1024
	// MaxServiceConnections bounds those to host services.
	MaxServiceConnections = 256
	// MaxForwarded bounds the TCP connections that clients on the host open to the guest.
	MaxForwarded = 256
	// MaxUDPFlows bounds the UDP flows of both directions.
	MaxUDPFlows = 512
	// MaxLookups bounds the DNS questions that are being answered; each has at most one socket.
	MaxLookups = 128
	// MaxDNSConnections bounds the TCP connections to the gateway's DNS. They have no socket on the host.
	MaxDNSConnections = 64

	// MaxDescriptors is the limit that the process gives itself.
	MaxDescriptors = 2048
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
	// StartTCPBuffer is the buffer of a connection before it is known how many there are.
	StartTCPBuffer = 32 << 10
	maxCopyBuffer  = 32 << 10
	// timeWait is short because frames of the virtual link neither come late nor twice.
	timeWait = 500 * time.Millisecond
)

// TCPBuffer returns the buffer size, for each direction, of a connection that makes it so many.
func TCPBuffer(connections int) int {
	return min(maxTCPBuffer, max(minTCPBuffer, tcpBufferBudget/max(1, connections)))
}

// CopyBuffer is the size of the buffer that relays a connection, for each direction.
func CopyBuffer(connections int) int {
	return min(maxCopyBuffer, max(minTCPBuffer, TCPBuffer(connections)/4))
}

// Reserve counts one more, or returns false when there are as many as the limit.
func Reserve(counter *atomic.Int64, limit int64) bool {
	if counter.Add(1) > limit {
		counter.Add(-1)
		return false
	}
	return true
}

// Process sets the limits of this process. They hold until it ends.
func Process() error {
	// The live heap is a few MiB; collecting earlier than Go's default keeps what bulk transfers
	// leave behind small.
	debug.SetGCPercent(50)
	debug.SetMemoryLimit(memoryTarget)
	var now syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &now); err != nil {
		return fmt.Errorf("cannot read the limit of open files: %w", err)
	}
	bound := min(now.Max, MaxDescriptors)
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: bound, Max: bound}); err != nil {
		return fmt.Errorf("cannot limit open files: %w", err)
	}
	return nil
}

// Stack sets what the stack's TCP may hold for connections that have no size of their own.
func Stack(s *stack.Stack) tcpip.Error {
	receive := tcpip.TCPReceiveBufferSizeRangeOption{Min: minTCPBuffer, Default: StartTCPBuffer, Max: maxTCPBuffer}
	if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, &receive); err != nil {
		return err
	}
	send := tcpip.TCPSendBufferSizeRangeOption{Min: minTCPBuffer, Default: StartTCPBuffer, Max: maxTCPBuffer}
	if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, &send); err != nil {
		return err
	}
	wait := tcpip.TCPTimeWaitTimeoutOption(timeWait)
	return s.SetTransportProtocolOption(tcp.ProtocolNumber, &wait)
}
