package pki

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"testing"
	"time"
)

// simulated is a wall clock that a test moves: each wait ends with the next of its steps.
type simulated struct {
	now   time.Time
	steps []time.Duration
	check func(now time.Time)
}

var errOver = errors.New("the simulated time is over")

func (s *simulated) Now() time.Time { return s.now }

func (s *simulated) WaitUntil(_ context.Context, at time.Time) error {
	if len(s.steps) == 0 {
		return errOver
	}
	next := s.now.Add(s.steps[0])
	// A step that goes past the time of the wait ends there, as the timer does, unless the machine was suspended.
	if s.steps[0] <= day && next.After(at) {
		next = at
	}
	s.now, s.steps = next, s.steps[1:]
	return nil
}

const day = 24 * time.Hour

// valid fails the test when a certificate is not valid now; a machine that just resumed has not made them anew yet.
func valid(t *testing.T, dir string, now time.Time, names ...string) {
	t.Helper()
	for _, name := range names {
		cert, err := loadCert(filepath.Join(dir, name+".crt"))
		if err != nil {
			t.Fatal(err)
		}
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			t.Fatalf("on %s %s is shown, which is valid from %s to %s", now, name, cert.NotBefore, cert.NotAfter)
		}
	}
}

// cluster makes the certificates as a start does.
func cluster(t *testing.T, dir string, now time.Time) (files []string) {
	t.Helper()
	for _, name := range []string{"server", "client"} {
		authority, err := EnsureAuthority(dir, name+"-ca", now)
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, name)
		if _, err := authority.Ensure(path+".crt", path+".key", server, now); err != nil {
			t.Fatal(err)
		}
		files = append(files, path+".crt")
	}
	return files
}

// walk runs a cluster through the steps, starting it again whenever its certificates have to be made anew; it gives
// how often that was.
func walk(t *testing.T, steps []time.Duration) (starts int) {
	t.Helper()
	dir := t.TempDir()
	clock := &simulated{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), steps: steps}
	for {
		files := cluster(t, dir, clock.now)
		for {
			valid(t, dir, clock.now, "server", "client", "server-ca", "client-ca")
			// One step at a time, so that each is looked at.
			rest := clock.steps
			clock.steps = rest[:min(1, len(rest))]
			err := AwaitRenewal(context.Background(), clock, files)
			if len(rest) > 0 {
				clock.steps = append(clock.steps, rest[1:]...)
			}
			if err == nil {
				break
			}
			if !errors.Is(err, errOver) {
				t.Fatal(err)
			}
			if len(rest) == 0 {
				return starts
			}
		}
		starts++
	}
}

func TestAClusterThatRunsForTwoYearsShowsNoExpiredCertificate(t *testing.T) {
	var steps []time.Duration
	for range 2 * 365 {
		steps = append(steps, day)
	}
	if starts := walk(t, steps); starts != 2 {
		t.Errorf("it started again %d times", starts)
	}
}

func TestAClusterThatIsSuspendedInBetweenShowsNoExpiredCertificate(t *testing.T) {
	for _, asleep := range []int{3, 30, 100, 200, 310, 400} {
		t.Run(fmt.Sprintf("%d days", asleep), func(t *testing.T) {
			var steps []time.Duration
			for days := 0; days < 2*365; days += 20 + asleep {
				for range 20 {
					steps = append(steps, day)
				}
				steps = append(steps, time.Duration(asleep)*day)
			}
			starts := walk(t, steps)
			if most := len(steps); starts < 1 || starts > most {
				t.Errorf("it started again %d times", starts)
			}
		})
	}
}

func TestAwaitRenewalEndsWhenTheClockIsSetBeforeTheBegin(t *testing.T) {
	dir := t.TempDir()
	now := time.Now()
	clock := &simulated{now: now, steps: []time.Duration{-30 * day}}
	if err := AwaitRenewal(context.Background(), clock, cluster(t, dir, now)); err != nil {
		t.Error(err)
	}
}

func TestAwaitRenewalNamesACertificateThatItCannotRead(t *testing.T) {
	clock := &simulated{now: time.Now()}
	if err := AwaitRenewal(context.Background(), clock, []string{filepath.Join(t.TempDir(), "a.crt")}); err == nil || errors.Is(err, errOver) {
		t.Errorf("got %v", err)
	}
}

func TestAStartLeavesNothingForWhichARunningClusterStartsAgain(t *testing.T) {
	if renewRunning >= renewBefore {
		t.Error("a start would keep a certificate that is due at once, and the cluster start again for ever")
	}
}
