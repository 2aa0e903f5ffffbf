//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

const (
	maxQueued = 1024
	// maxLine is what a fifo takes in one piece: longer lines of two writers would mix.
	maxLine = 4096
)

// openMarks makes the fifo if it is not there and opens it for reading and writing: with a writer
// that never goes, the end of another one is not an end of file.
func openMarks(path string) (int, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return -1, err
	}
	if err := unix.Mkfifo(path, 0o600); err != nil && !errors.Is(err, unix.EEXIST) {
		return -1, &os.PathError{Op: "mkfifo", Path: path, Err: err}
	}
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, &os.PathError{Op: "open", Path: path, Err: err}
	}
	var stat unix.Stat_t
	if err := unix.Fstat(fd, &stat); err != nil || stat.Mode&unix.S_IFMT != unix.S_IFIFO {
		unix.Close(fd)
		return -1, fmt.Errorf("%s is not a fifo", path)
	}
	return fd, nil
}

// writeMark writes one line for the control agent, and fails at once if there is none.
func writeMark(path, line string) error {
	if len(line) > maxLine {
		return fmt.Errorf("the mark is longer than %d bytes", maxLine)
	}
	file, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString(line)
	return err
}

// lineBuffer cuts a stream into lines.
type lineBuffer struct{ rest []byte }

// add returns the lines that are complete now, without their ends and without empty ones. A line
// that has no end within maxLine bytes is cut.
func (b *lineBuffer) add(data []byte) []string {
	b.rest = append(b.rest, data...)
	var lines []string
	for {
		end := bytes.IndexByte(b.rest[:min(maxLine, len(b.rest))], '\n')
		next := end + 1
		if end < 0 {
			if len(b.rest) < maxLine {
				return lines
			}
			end, next = maxLine-1, maxLine-1
		}
		if line := bytes.TrimRight(b.rest[:end], "\r"); len(line) > 0 {
			lines = append(lines, string(line))
		}
		b.rest = b.rest[next:]
	}
}

// lineQueue holds what the host has not taken yet.
type lineQueue struct {
	lines   []string
	sent    int // bytes of the first line that are written
	dropped int
}

// push adds a line. When the queue is full it is dropped, unless it tells of a failure or answers
// the host: those are few, and someone waits for them.
func (q *lineQueue) push(line string) {
	if len(q.lines) >= maxQueued && line[0] != '!' && line[0] != '=' {
		q.dropped++
		return
	}
	q.lines = append(q.lines, line+"\n")
}

// flush writes until the port takes no more.
func (q *lineQueue) flush(fd int) {
	for len(q.lines) > 0 {
		n, err := unix.Write(fd, []byte(q.lines[0][q.sent:]))
		if n <= 0 || err != nil {
			return
		}
		q.sent += n
		if q.sent < len(q.lines[0]) {
			continue
		}
		q.lines, q.sent = q.lines[1:], 0
		if len(q.lines) == 0 && q.dropped > 0 {
			q.lines = append(q.lines, fmt.Sprintf("%s marks-dropped count=%d\n", uptimeText(), q.dropped))
			q.dropped = 0
		}
	}
}

// restart makes the next flush send its first line whole: the host that got the half of it is gone.
func (q *lineQueue) restart() { q.sent = 0 }
