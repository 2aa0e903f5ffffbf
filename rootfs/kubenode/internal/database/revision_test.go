package database

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/k3s-io/kine/pkg/server"
)

// open gives a real one, in a new file.
func open(t *testing.T) server.Backend {
	t.Helper()
	backend, _ := openBoth(t)
	return backend
}

func TestTheNewestRevisionIsThatOfTheLastWriteOfManyAtOnce(t *testing.T) {
	ctx := context.Background()
	b := open(t)
	for round := range 50 {
		var writes sync.WaitGroup
		var lock sync.Mutex
		var last int64
		for writer := range 3 {
			writes.Go(func() {
				rev, err := b.Create(ctx, fmt.Sprintf("/registry/%d/%d", round, writer), []byte("x"), 0)
				if err != nil {
					t.Error(err)
				}
				lock.Lock()
				last = max(last, rev)
				lock.Unlock()
			})
		}
		writes.Wait()
		// The loop that reads new rows may still be on its way, and must not take anything back.
		for range 3 {
			if rev, err := b.CurrentRevision(ctx); err != nil || rev != last {
				t.Fatalf("round %d: the newest revision is %d (%v), not %d", round, rev, err, last)
			}
			time.Sleep(time.Millisecond)
		}
	}
}

// stuck is a database whose idea of its newest revision stays behind, as kine's can.
type stuck struct {
	server.Backend
	rev  int64
	done bool
}

func (s *stuck) CurrentRevision(context.Context) (int64, error) { return 500, nil }

func (s *stuck) Update(context.Context, string, []byte, int64, int64) (int64, *server.KeyValue, bool, error) {
	return s.rev, nil, s.done, nil
}

func (s *stuck) Delete(context.Context, string, int64) (int64, *server.KeyValue, bool, error) {
	return s.rev, nil, s.done, nil
}

func TestOnlyWritesThatWereDoneCount(t *testing.T) {
	ctx := context.Background()
	inner := &stuck{}
	b := &remembering{Backend: inner}
	steps := []struct {
		rev  int64
		done bool
		want int64
	}{{501, false, 500}, {502, true, 502}, {501, true, 502}, {499, true, 502}}
	for _, step := range steps {
		inner.rev, inner.done = step.rev, step.done
		for name, write := range map[string]func(){
			"update": func() { b.Update(ctx, "k", nil, 1, 0) },
			"delete": func() { b.Delete(ctx, "k", 1) },
		} {
			write()
			if got, _ := b.CurrentRevision(ctx); got != step.want {
				t.Errorf("after the %s of %+v the newest revision is %d", name, step, got)
			}
		}
	}
}
