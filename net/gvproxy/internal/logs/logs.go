// Package logs keeps the program's log small: kinds of lines are limited in number, lines in length, the log in size.
// It must not know what the lines are about.
package logs

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/sirupsen/logrus"
)

const (
	// window is the time in which a kind of line is written at most burst times. Lines of one
	// kind have the same message; those of the library's own logger are one kind together.
	window = time.Minute
	burst  = 20
	// maxLineLength is where a line is cut, maxSize where the log ends.
	maxLineLength = 2048
	maxSize       = 16 << 20
)

// Set sends this program's log and the library's to out, within the limits above: most lines are
// caused by the guest.
func Set(level string, out io.Writer) error {
	var parsed slog.Level
	if err := parsed.UnmarshalText([]byte(level)); err != nil {
		return fmt.Errorf("logLevel %q is not debug, info, warn or error", level)
	}
	bounded := &boundedLog{out: out, left: maxSize}
	lines := &limiter{now: time.Now, kinds: map[string]*lineKind{}}
	text := slog.NewTextHandler(bounded, &slog.HandlerOptions{Level: parsed})
	slog.SetDefault(slog.New(limitedHandler{text, lines}))
	// The library has a logger of its own.
	logrus.SetOutput(libraryLog{bounded, lines})
	logrus.SetLevel(logrus.ErrorLevel)
	if parsed <= slog.LevelDebug {
		logrus.SetLevel(logrus.DebugLevel)
	}
	return nil
}

// limiter counts the lines of each kind in the current window.
type limiter struct {
	now   func() time.Time
	lock  sync.Mutex
	kinds map[string]*lineKind
}

type lineKind struct {
	since   time.Time
	written int
	omitted int
}

// allow tells whether a line of the kind may be written, and how many were omitted before it.
func (l *limiter) allow(kind string) (allowed bool, omitted int) {
	l.lock.Lock()
	defer l.lock.Unlock()
	k := l.kinds[kind]
	if k == nil {
		k = &lineKind{since: l.now()}
		l.kinds[kind] = k
	}
	if l.now().Sub(k.since) >= window {
		omitted = k.omitted
		*k = lineKind{since: l.now()}
	}
	if k.written >= burst {
		k.omitted++
		return false, 0
	}
	k.written++
	return true, omitted
}

// limitedHandler omits records of which there are too many. Messages are constants of this program, so
// the number of kinds is bounded.
type limitedHandler struct {
	slog.Handler
	limiter *limiter
}

func (h limitedHandler) Handle(ctx context.Context, record slog.Record) error {
	allowed, omitted := h.limiter.allow(record.Message)
	if !allowed {
		return nil
	}
	if omitted > 0 {
		record.AddAttrs(slog.Int("omitted", omitted))
	}
	return h.Handler.Handle(ctx, record)
}

func (h limitedHandler) WithAttrs(attributes []slog.Attr) slog.Handler {
	return limitedHandler{h.Handler.WithAttrs(attributes), h.limiter}
}

func (h limitedHandler) WithGroup(name string) slog.Handler {
	return limitedHandler{h.Handler.WithGroup(name), h.limiter}
}

// libraryLog is the output of the library's logger, which writes each line at once.
type libraryLog struct {
	out     io.Writer
	limiter *limiter
}

func (l libraryLog) Write(line []byte) (int, error) {
	if allowed, _ := l.limiter.allow("library"); allowed {
		_, _ = l.out.Write(line)
	}
	return len(line), nil
}

// boundedLog cuts long lines and ends after its size.
type boundedLog struct {
	lock sync.Mutex
	out  io.Writer
	left int
}

func (b *boundedLog) Write(line []byte) (int, error) {
	b.lock.Lock()
	defer b.lock.Unlock()
	written := line
	if len(written) > maxLineLength {
		written = append(append([]byte{}, line[:maxLineLength-1]...), '\n')
	}
	if b.left <= 0 {
		return len(line), nil
	}
	if b.left -= len(written); b.left <= 0 {
		written = []byte("the log has reached its largest size\n")
	}
	_, err := b.out.Write(written)
	return len(line), err
}
