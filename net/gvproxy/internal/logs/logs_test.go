package logs

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/sirupsen/logrus"
)

func TestTheLogIsLimited(t *testing.T) {
	before := slog.Default()
	defer func() {
		slog.SetDefault(before)
		logrus.SetOutput(&bytes.Buffer{})
	}()
	var out bytes.Buffer
	if err := Set("info", &out); err != nil {
		t.Fatal(err)
	}
	for range 100_000 {
		slog.Info("caused by the guest", "name", "x")
		logrus.Errorf("the library's own")
	}
	slog.Info("ready")
	slog.With("a", 1).WithGroup("g").Info("caused by the guest")
	for _, kind := range []string{"caused by the guest", "the library's own"} {
		if lines := strings.Count(out.String(), kind); lines != burst {
			t.Errorf("%q: %d lines", kind, lines)
		}
	}
	if !strings.Contains(out.String(), "msg=ready") {
		t.Error("a line of another kind was lost")
	}
}

func TestLogLimiterCountsWhatItOmits(t *testing.T) {
	now := time.Unix(0, 0)
	lines := &limiter{now: func() time.Time { return now }, kinds: map[string]*lineKind{}}
	for range burst + 5 {
		lines.allow("a")
	}
	if allowed, _ := lines.allow("b"); !allowed {
		t.Error("kinds are not apart")
	}
	now = now.Add(window)
	if allowed, omitted := lines.allow("a"); !allowed || omitted != 5 {
		t.Errorf("%v, %d omitted", allowed, omitted)
	}
}

func TestTheLogEndsAtItsSize(t *testing.T) {
	var out bytes.Buffer
	log := &boundedLog{out: &out, left: 10 * maxLineLength}
	line := []byte(strings.Repeat("x", 3*maxLineLength) + "\n")
	for range 100 {
		if n, err := log.Write(line); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	if out.Len() > 10*maxLineLength || !strings.HasSuffix(out.String(), "its largest size\n") {
		t.Errorf("%d bytes", out.Len())
	}
}
