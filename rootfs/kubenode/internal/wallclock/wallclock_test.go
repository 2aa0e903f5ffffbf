package wallclock

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestWaitUntilReturnsAtATimeThatHasPassedOrComes(t *testing.T) {
	for _, ahead := range []time.Duration{-24 * time.Hour, 50 * time.Millisecond} {
		at := Clock{}.Now().Add(ahead)
		if err := (Clock{}).WaitUntil(context.Background(), at); err != nil {
			t.Fatal(err)
		}
		if (Clock{}).Now().Before(at) {
			t.Errorf("it returned before %s", at)
		}
	}
}

func TestWaitUntilEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	if err := (Clock{}).WaitUntil(ctx, time.Now().Add(300*24*time.Hour)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
