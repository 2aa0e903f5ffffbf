//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// hostGrace is how long a host that was connected may be away before the guest stops itself: its
// supervisor is dead then, and nobody else would ever end this machine.
const hostGrace = 5 * time.Second

// control is the state of `agent control`. All of it belongs to one goroutine.
type control struct {
	port     *port // nil while it could not be opened
	open     func() (*port, error)
	marks    int
	requests *requestHandler
	poweroff func() error
	grace    time.Duration

	incoming lineBuffer
	fifo     lineBuffer
	queue    lineQueue

	connected bool
	everSeen  bool
	lostAt    time.Time
	stopped   bool
	nextOpen  time.Time
}

func controlCommand(args []string) error {
	flags := newFlags("control")
	device := flags.String("device", "", "")
	marks := flags.String("marks", defaultMarks, "")
	payloadDevice := flags.String("payload-device", "", "")
	payload := flags.String("payload", defaultPayload, "")
	_ = flags.Parse(args)
	// The agent outlives the programs that are told to end, so that their marks reach the host.
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	fd, err := openMarks(*marks)
	if err != nil {
		return err
	}
	c := &control{
		open:     func() (*port, error) { return openPort(*device, "gw.control") },
		marks:    fd,
		poweroff: signalInit,
		grace:    hostGrace,
	}
	programs := newFreezer()
	if err := programs.thawOthers(); err != nil {
		fmt.Fprintf(os.Stderr, "agent control: cannot thaw programs: %v\n", err)
	}
	c.requests = &requestHandler{
		setClock: setClock,
		freeze:   programs.freeze,
		release:  programs.thaw,
		reseed:   reseed,
		payload:  func() (int, error) { return unpackPayload(*payloadDevice, *payload) },
		tokenKey: func() error { return sendTokenKey(filepath.Join(*payload, "token.key"), tokenKeySocket) },
		cut:      cutConnections,
		thaw:     thaw,
		poweroff: func() error { return c.poweroff() },
	}
	for {
		if err := c.step(); err != nil {
			return err
		}
	}
}

// signalInit asks PID 1 for a clean stop.
func signalInit() error { return unix.Kill(1, unix.SIGUSR1) }

// step waits for one event and handles it.
func (c *control) step() error {
	c.lookAtPort()
	fds := []unix.PollFd{{Fd: int32(c.marks), Events: unix.POLLIN}}
	timeout := int(reconnectInterval / time.Millisecond)
	if c.connected {
		events := int16(unix.POLLIN)
		if len(c.queue.lines) > 0 {
			events |= unix.POLLOUT
		}
		fds = append(fds, unix.PollFd{Fd: int32(c.port.fd), Events: events})
		timeout = -1
	}
	if _, err := unix.Poll(fds, timeout); err != nil && !errors.Is(err, unix.EINTR) {
		return err
	}
	if fds[0].Revents&unix.POLLIN != 0 {
		for _, line := range readLines(c.marks, &c.fifo) {
			c.queue.push(line)
		}
	}
	if c.connected {
		for _, line := range readLines(c.port.fd, &c.incoming) {
			c.queue.push(c.requests.answer(line))
		}
		c.queue.flush(c.port.fd)
	}
	return nil
}

// lookAtPort keeps connected true to the facts and acts when the host has been away too long.
func (c *control) lookAtPort() {
	now := time.Now()
	if c.port == nil && now.After(c.nextOpen) {
		p, err := c.open()
		if err == nil {
			c.port = p
		}
		c.nextOpen = now.Add(reconnectInterval)
	}
	is := c.port != nil && c.port.connected()
	switch {
	case is && !c.connected:
		c.everSeen = true
	case !is && c.connected:
		c.lostAt = now
		c.queue.restart()
		c.incoming = lineBuffer{}
	case !is && c.everSeen && !c.stopped && now.Sub(c.lostAt) >= c.grace:
		c.stopped = true
		if err := c.poweroff(); err != nil {
			fmt.Fprintf(os.Stderr, "agent control: cannot stop the guest: %v\n", err)
		}
	}
	c.connected = is
}

// readLines takes what a non-blocking descriptor has now.
func readLines(fd int, into *lineBuffer) []string {
	var lines []string
	buffer := make([]byte, 8192)
	for {
		n, err := unix.Read(fd, buffer)
		if n <= 0 || err != nil {
			return lines
		}
		lines = append(lines, into.add(buffer[:n])...)
	}
}

// requestHandler carries out what the host asks for. Its fields are the deeds; tests replace them.
type requestHandler struct {
	setClock func(text string) (offset time.Duration, err error)
	freeze   func() (still bool, err error)
	release  func() error
	reseed   func(seed string) error
	payload  func() (files int, err error)
	tokenKey func() error
	cut      func() error
	thaw     func(words ...string) error
	poweroff func() error
}

// answer carries out one request and returns the reply line.
func (h *requestHandler) answer(line string) string {
	id, rest, _ := strings.Cut(line, " ")
	verb, argument, _ := strings.Cut(rest, " ")
	text, err := h.carryOut(verb, argument)
	if err != nil {
		return fmt.Sprintf("= %s error %s", id, strings.Join(strings.Fields(err.Error()), " "))
	}
	return strings.TrimRight(fmt.Sprintf("= %s ok %s", id, text), " ")
}

func (h *requestHandler) carryOut(verb, argument string) (string, error) {
	switch verb {
	case "ping":
		return uptimeText(), nil
	case "clock":
		offset, err := h.setClock(argument)
		return fmt.Sprintf("offset=%.6f", offset.Seconds()), err
	case "freeze":
		still, err := h.freeze()
		return fmt.Sprintf("still=%t uptime=%s", still, uptimeText()), err
	case "reseed":
		// Only with random bytes of this guest's own may its programs run.
		if err := h.reseed(argument); err != nil {
			return "", err
		}
		return "", h.release()
	case "payload":
		files, err := h.payload()
		return fmt.Sprintf("files=%d", files), err
	case "token-key":
		return "", h.tokenKey()
	case "thaw":
		words := strings.Fields(argument)
		for _, word := range words {
			if word != "adopt" && word != "renew" {
				return "", fmt.Errorf("unknown word %q", word)
			}
		}
		if err := h.cut(); err != nil {
			return "", err
		}
		if len(words) == 0 {
			return "", nil
		}
		return "", h.thaw(words...)
	case "poweroff":
		return "", h.poweroff()
	}
	return "", fmt.Errorf("unknown request %q", verb)
}

// uptimeText returns the seconds since the guest's start with 2 decimals.
func uptimeText() string {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &now); err != nil {
		return "0.00"
	}
	return fmt.Sprintf("%d.%02d", now.Sec, now.Nsec/10_000_000)
}
