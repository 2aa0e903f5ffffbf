package imageload

import (
	"context"
	"sync"
)

// keyedLocks lets images that share layers unpack each of them once.
type keyedLocks struct {
	mu   sync.Mutex
	held map[string]chan struct{}
}

// Lock waits until the key is free.
func (l *keyedLocks) Lock(ctx context.Context, key string) error {
	for {
		l.mu.Lock()
		other, taken := l.held[key]
		if !taken {
			if l.held == nil {
				l.held = map[string]chan struct{}{}
			}
			l.held[key] = make(chan struct{})
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Unlock frees the key and wakes whoever waits for it.
func (l *keyedLocks) Unlock(key string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.held[key])
	delete(l.held, key)
}
