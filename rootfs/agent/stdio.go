//go:build linux

package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	portTimeout = 10 * time.Second
	// stdinBacklog is how many frames of input may wait for a program that does not read, so that a
	// signal sent after them is still seen.
	stdinBacklog = 256
	// confirmTimeout bounds the wait for a host that never said that it confirms.
	confirmTimeout = time.Second
	// confirmInterval is how often that wait looks whether the host has closed its side instead.
	confirmInterval = 20 * time.Millisecond
)

func stdioCommand(args []string) error {
	flags := newFlags("stdio")
	device := flags.String("device", "", "")
	payload := flags.String("payload", defaultPayload, "")
	_ = flags.Parse(args)
	signal.Ignore(syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	p, err := awaitPort(*device, "gw.stdio", portTimeout)
	if err != nil {
		return err
	}
	return runStdio(p, p.connected, *payload, confirmTimeout)
}

// session is one program and its host.
type session struct {
	out       *frameWriter
	stdin     chan []byte
	signals   chan syscall.Signal
	confirmed chan struct{}
	once      sync.Once
	confirms  atomic.Bool
}

// runStdio runs the payload's program over the port and returns when the host has everything.
// connected tells whether the host still has its side open.
func runStdio(p io.ReadWriter, connected func() bool, payload string, confirm time.Duration) error {
	s := &session{
		out:       &frameWriter{to: p},
		stdin:     make(chan []byte, stdinBacklog),
		signals:   make(chan syscall.Signal, 16),
		confirmed: make(chan struct{}),
	}
	if err := s.out.write(frameReady, nil); err != nil {
		return err
	}
	go s.receive(bufio.NewReaderSize(p, 64*1024))
	code, complaint := s.runProgram(payload)
	if complaint != "" {
		_ = s.out.write(frameStderr, []byte("gateway: "+complaint))
	}
	if err := s.out.exit(code); err != nil {
		return err
	}
	s.awaitConfirmation(connected, confirm)
	return nil
}

// awaitConfirmation keeps the guest alive until the host has read what is still on its way: the end
// of the machine would throw that away. A host that is slow because its own reader is slow is waited
// for as long as it takes, if it promised to confirm.
func (s *session) awaitConfirmation(connected func() bool, timeout time.Duration) {
	start := time.Now()
	for connected() {
		select {
		case <-s.confirmed:
			return
		case <-time.After(confirmInterval):
			if !s.confirms.Load() && time.Since(start) >= timeout {
				return
			}
		}
	}
}

// receive takes the host's frames until the port fails.
func (s *session) receive(from io.Reader) {
	defer s.once.Do(func() { close(s.confirmed) })
	open := true
	for {
		f, err := readFrame(from)
		if err != nil {
			if open {
				close(s.stdin)
			}
			return
		}
		switch f.kind {
		case frameStdin:
			if open && len(f.body) == 0 {
				open = false
				close(s.stdin)
			} else if open {
				s.stdin <- f.body
			}
		case frameSignal:
			if len(f.body) == 1 {
				select {
				case s.signals <- syscall.Signal(f.body[0]):
				default:
				}
			}
		case frameReady:
			s.confirms.Store(true)
		case frameExit:
			s.once.Do(func() { close(s.confirmed) })
		}
	}
}

// runProgram returns the exit code, and what to tell the user if the program did not run.
func (s *session) runProgram(payload string) (int, string) {
	program, err := loadProgram(payload)
	if err != nil {
		return exitNotExecutable, err.Error() + "\n"
	}
	pipes, err := openPipes()
	if err != nil {
		return exitNotExecutable, err.Error() + "\n"
	}
	process, code, complaint := program.start(pipes.stdin[0], pipes.stdout[1], pipes.stderr[1])
	pipes.stdin[0].Close()
	pipes.stdout[1].Close()
	pipes.stderr[1].Close()
	if process == nil {
		return code, complaint
	}
	go s.feed(pipes.stdin[1])
	go func() {
		for number := range s.signals {
			_ = process.Signal(number)
		}
	}()
	var drains sync.WaitGroup
	drains.Go(func() { s.pump(frameStdout, pipes.stdout[0]) })
	drains.Go(func() { s.pump(frameStderr, pipes.stderr[0]) })
	state, err := process.Wait()
	// A child of the program may hold the pipes open. What was written by now counts, the rest does
	// not: the readers are woken, and take what the pipes hold.
	_ = pipes.stdout[0].SetReadDeadline(time.Unix(1, 0))
	_ = pipes.stderr[0].SetReadDeadline(time.Unix(1, 0))
	drains.Wait()
	// Ends a feed that waits for a reader, so that the host's confirmation behind it can be read.
	pipes.stdin[1].Close()
	if err != nil {
		return exitNotExecutable, err.Error() + "\n"
	}
	return exitCode(state), ""
}

// exitCode is the shell's: 128 and the signal's number for a program that was killed.
func exitCode(state *os.ProcessState) int {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return state.ExitCode()
}

type stdioPipes struct{ stdin, stdout, stderr [2]*os.File }

func openPipes() (stdioPipes, error) {
	var p stdioPipes
	for _, pair := range []*[2]*os.File{&p.stdin, &p.stdout, &p.stderr} {
		r, w, err := os.Pipe()
		if err != nil {
			return p, err
		}
		pair[0], pair[1] = r, w
	}
	return p, nil
}

// feed gives the program its input. A program that closed its end or is gone makes the rest of the
// input void, not an error.
func (s *session) feed(to *os.File) {
	broken := false
	for data := range s.stdin {
		if !broken {
			_, err := to.Write(data)
			broken = err != nil
			if broken {
				to.Close()
			}
		}
	}
	to.Close()
}

// pump sends one output until its end, or until the read deadline says that the program has ended.
func (s *session) pump(kind byte, from *os.File) {
	defer from.Close()
	buffer := make([]byte, chunkSize)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if s.out.write(kind, buffer[:n]) != nil {
				return
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.drain(kind, from, buffer)
			return
		}
		if err != nil {
			return
		}
	}
}

// drain sends what is in the pipe now. It is bounded by what a pipe can hold, since a child that was
// left behind may go on writing.
func (s *session) drain(kind byte, from *os.File, buffer []byte) {
	_ = from.SetReadDeadline(time.Time{})
	raw, err := from.SyscallConn()
	if err != nil {
		return
	}
	left := 0
	_ = raw.Control(func(fd uintptr) { left, _ = unix.IoctlGetInt(int(fd), unix.TIOCINQ) })
	for left > 0 {
		n := 0
		_ = raw.Read(func(fd uintptr) bool {
			n, _ = unix.Read(int(fd), buffer[:min(left, len(buffer))])
			return true
		})
		if n <= 0 || s.out.write(kind, buffer[:n]) != nil {
			return
		}
		left -= n
	}
}
