//go:build linux

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	cgroupRoot = "/sys/fs/cgroup"
	// ownGroup holds PID 1, this agent and the DHCP client: what the host needs to reach the guest.
	ownGroup = "init"
	// freezeWait bounds the wait for programs that the kernel keeps busy. One that is still in a call then
	// stops before its next instruction, so it draws nothing either.
	freezeWait = 2 * time.Second
	// freezeLimit ends a freeze that the host does not end, counted in time of the running guest. Every start
	// that resumes from a saved state has given up long before.
	freezeLimit = time.Minute
)

// freezer stops every program but init and the agent while a state is saved that several guests resume from, and until
// each of them has random bytes of its own.
type freezer struct {
	root        string
	wait, limit time.Duration
	write       func(path, state string) error // tests replace it

	mu     sync.Mutex
	groups []string // those that it froze
	timer  *time.Timer
}

func newFreezer() *freezer {
	return &freezer{root: cgroupRoot, wait: freezeWait, limit: freezeLimit, write: writeState}
}

// freeze stops the programs and reports whether all stood still within the wait. After an error none is frozen.
func (f *freezer) freeze() (still bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	running, err := f.inState("0")
	if err != nil {
		return false, err
	}
	f.groups = append(f.groups, running...)
	for _, group := range running {
		if err := f.set(group, "1"); err != nil {
			return false, errors.Join(err, f.thawLocked())
		}
	}
	if f.timer != nil {
		f.timer.Stop()
	}
	f.timer = time.AfterFunc(f.limit, func() {
		fmt.Fprintln(os.Stderr, "agent control: the host did not end a freeze in time")
		_ = f.thaw()
	})
	for deadline := time.Now().Add(f.wait); ; time.Sleep(time.Millisecond) {
		still := !slices.ContainsFunc(f.groups, f.moves)
		if still || time.Now().After(deadline) {
			return still, nil
		}
	}
}

// thaw lets the programs that freeze stopped run again; without any it does nothing.
func (f *freezer) thaw() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.thawLocked()
}

func (f *freezer) thawLocked() error {
	if f.timer != nil {
		f.timer.Stop()
		f.timer = nil
	}
	var errs []error
	for _, group := range f.groups {
		errs = append(errs, f.set(group, "0"))
	}
	f.groups = nil
	return errors.Join(errs...)
}

// thawOthers lets run what an agent froze that ended before it could thaw it.
func (f *freezer) thawOthers() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	left, err := f.inState("1")
	if err != nil {
		return err
	}
	f.groups = append(f.groups, left...)
	return f.thawLocked()
}

// inState lists the groups at the top that are told to be frozen ("1") or not ("0"), but for our own. Groups below
// follow theirs.
func (f *freezer) inState(state string) ([]string, error) {
	entries, err := os.ReadDir(f.root)
	if err != nil {
		return nil, err
	}
	var found []string
	for _, entry := range entries {
		if !entry.IsDir() || entry.Name() == ownGroup {
			continue
		}
		text, err := os.ReadFile(filepath.Join(f.root, entry.Name(), "cgroup.freeze"))
		if err == nil && strings.TrimSpace(string(text)) == state {
			found = append(found, entry.Name())
		}
	}
	return found, nil
}

func (f *freezer) set(group, state string) error {
	return f.write(filepath.Join(f.root, group, "cgroup.freeze"), state)
}

// writeState writes to a group; one that is gone has no program left.
func writeState(path, state string) error {
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	_, err = file.WriteString(state)
	return err
}

// moves tells whether a program of a group may still run.
func (f *freezer) moves(group string) bool {
	events, err := os.ReadFile(filepath.Join(f.root, group, "cgroup.events"))
	return err == nil && !slices.Contains(strings.Split(string(events), "\n"), "frozen 1")
}
