package heap

import (
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"
)

func TestCollectSinceCollectsUnlessSomethingElseDid(t *testing.T) {
	debug.SetGCPercent(-1) // nothing else does
	defer debug.SetGCPercent(usual)
	before := collections()
	idle := collectSince(before)
	if idle != before+1 {
		t.Errorf("idle: %d collections instead of one", idle-before)
	}
	runtime.GC()
	if busy := collectSince(idle); busy != idle+1 {
		t.Errorf("busy: %d collections instead of one", busy-idle)
	}
}

var kept [][]byte

func TestSettleEndsRelaxAndGivesFreeMemoryBack(t *testing.T) {
	startOver = sync.Once{} // as in a process that starts
	Relax(time.Hour)
	if percent := debug.SetGCPercent(relaxed); percent != relaxed {
		t.Errorf("relaxed, the heap grows by %d %%", percent)
	}
	for range 64 {
		kept = append(kept, make([]byte, 1<<20))
	}
	kept = nil
	Settle()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	if stats.HeapAlloc > 32<<20 || stats.HeapIdle-stats.HeapReleased > 8<<20 {
		t.Errorf("settled, %d MiB are alive and %d MiB free but not given back", stats.HeapAlloc>>20, (stats.HeapIdle-stats.HeapReleased)>>20)
	}
	if percent := debug.SetGCPercent(usual); percent != usual {
		t.Errorf("settled, the heap grows by %d %%", percent)
	}
}
