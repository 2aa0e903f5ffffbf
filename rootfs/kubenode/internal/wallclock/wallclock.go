// Package wallclock waits for a time of the wall clock, also when that clock is set meanwhile. Go's own timers count the
// time that the machine ran.
package wallclock

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Clock is the machine's.
type Clock struct{}

// Now gives the time without Go's steady reading, which a comparison would prefer.
func (Clock) Now() time.Time { return time.Now().Round(0) }

// WaitUntil returns when the clock shows that time or was set, or with the context's error.
func (Clock) WaitUntil(ctx context.Context, at time.Time) error {
	fd, err := unix.TimerfdCreate(unix.CLOCK_REALTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("timerfd_create", err)
	}
	timer := os.NewFile(uintptr(fd), "timer")
	defer timer.Close()
	// A time of zero would turn the timer off.
	when := unix.ItimerSpec{Value: unix.NsecToTimespec(max(at.UnixNano(), 1))}
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME|unix.TFD_TIMER_CANCEL_ON_SET, &when, nil); err != nil {
		return os.NewSyscallError("timerfd_settime", err)
	}
	defer context.AfterFunc(ctx, func() { timer.Close() })()
	_, err = timer.Read(make([]byte, 8))
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, unix.ECANCELED): // the clock was set
		return nil
	}
	return err
}
