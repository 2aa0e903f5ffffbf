package pki

import (
	"context"
	"time"
)

// renewRunning is how long before the end of a leaf certificate a running cluster makes it anew. A start does so earlier
// (renewBefore), so the start that follows never leaves one for which it would have to start again.
const renewRunning = 60 * 24 * time.Hour

// Clock is the wall clock, which may be set at any time: a machine that was suspended resumes months later.
type Clock interface {
	Now() time.Time
	// WaitUntil returns when the clock shows that time or was set, or with the context's error.
	WaitUntil(ctx context.Context, at time.Time) error
}

// AwaitRenewal returns once one of the certificates in files has to be made anew: its end is near or was passed, or the
// clock was set to a time before its begin.
func AwaitRenewal(ctx context.Context, clock Clock, files []string) error {
	var begin, end time.Time
	for i, file := range files {
		cert, err := loadCert(file)
		if err != nil {
			return err
		}
		if i == 0 || cert.NotBefore.After(begin) {
			begin = cert.NotBefore
		}
		if i == 0 || cert.NotAfter.Before(end) {
			end = cert.NotAfter
		}
	}
	due := end.Add(-renewRunning)
	for now := clock.Now(); !now.Before(begin) && now.Before(due); now = clock.Now() {
		if err := clock.WaitUntil(ctx, due); err != nil {
			return err
		}
	}
	return nil
}
