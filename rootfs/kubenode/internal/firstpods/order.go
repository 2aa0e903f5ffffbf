package firstpods

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
	v1 "k8s.io/api/core/v1"
)

// PodSet is what kubelet's channels of pods carry: all pods of a source.
type PodSet = struct{ Pods []*v1.Pod }

// Source is a channel to kubelet and what goes with it. T is kubelet's own type, which has no name outside of its package.
type Source[T ~PodSet] struct {
	// Out takes the API server's pods.
	Out chan<- T
	// Held is a source that has no pods. Kubelet removes nothing of the pods that it does not know yet as long as one of
	// its sources has not spoken, so this one speaks when all pods of the others are there.
	Held chan<- T
	// All is closed then.
	All chan<- struct{}
	// DNS is the address of the cluster's name server.
	DNS string
	// Services gives all Services. When it fails, all pods start at once.
	Services func(context.Context) ([]v1.Service, error)
}

// NewSource is a Source with the channels that are kubelet's.
func NewSource[T ~PodSet](out, held chan<- T) Source[T] { return Source[T]{Out: out, Held: held} }

// Order gives a channel to fill in the place of Out, until ctx ends: pods of a run before come through it in two parts,
// first those that are reached from outside.
func (s Source[T]) Order(ctx context.Context) chan<- T {
	in := make(chan T)
	go func() {
		latest, more := s.awaitFirst(ctx, in)
		if !more {
			return
		}
		s.Out <- latest
		s.Held <- T(PodSet{})
		close(s.All)
		for {
			select {
			case <-ctx.Done():
				return
			case set := <-in:
				s.Out <- set
			}
		}
	}()
	return in
}

// awaitFirst passes the first pods on until the others may follow, and gives all of them as they are then; false when ctx
// ended before.
func (s Source[T]) awaitFirst(ctx context.Context, in <-chan T) (T, bool) {
	var latest T
	select {
	case <-ctx.Done():
		return latest, false
	case latest = <-in:
	}
	pods := PodSet(latest).Pods
	if len(pods) == 0 {
		return latest, true
	}
	services, err := s.Services(ctx)
	if err != nil {
		return latest, true
	}
	chosen := Pick(services, s.DNS, pods)
	wait := Wait{Booted: booted(), Began: time.Now()}
	for {
		first := chosen.Of(pods)
		left := wait.Left(first, time.Now())
		if len(first) == 0 || len(first) == len(pods) || left == 0 {
			return latest, true
		}
		s.Out <- T(PodSet{first})
		select {
		case <-ctx.Done():
			return latest, false
		case <-time.After(left):
		case latest = <-in:
			pods = PodSet(latest).Pods
		}
	}
}

// booted is when the machine started, by its own clock; long ago when it cannot say.
func booted() time.Time {
	var info unix.Sysinfo_t
	if err := unix.Sysinfo(&info); err != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(info.Uptime) * time.Second)
}
