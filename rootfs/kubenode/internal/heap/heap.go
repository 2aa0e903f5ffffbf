// Package heap decides when Go's heap is collected, for a cluster whose machine may be cloned. A clone shares each page
// with the others until it writes to it, and new objects are written to pages that nothing had touched for as long as no
// old ones are collected: garbage costs each clone memory of its own.
package heap

import (
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// Go's own, in percent of what is alive.
	usual = 100
	// During a start nearly everything that is allocated stays. Growing further than this costs more in page faults
	// than it saves.
	relaxed = 300
	// Go lets a heap that hardly grows lie for two minutes, in which an idle cluster allocates some 80 MiB.
	collectEvery = time.Minute
)

var startOver sync.Once

// Relax collects less often, until startTakes is over or Settle is called.
func Relax(startTakes time.Duration) {
	debug.SetGCPercent(relaxed)
	time.AfterFunc(startTakes, endStart)
}

// Settle ends what Relax began, collects, and gives what is free back to the system: clones made after it neither have
// this process's garbage nor have to collect it, each for itself.
func Settle() {
	endStart()
	debug.FreeOSMemory()
}

func endStart() {
	startOver.Do(func() {
		debug.SetGCPercent(usual)
		go keepCollected(time.Tick(collectEvery))
	})
}

func keepCollected(ticks <-chan time.Time) {
	seen := collections()
	for range ticks {
		seen = collectSince(seen)
	}
}

// collectSince collects unless something was since that many collections: a heap that is used much is collected by Go
// itself, and more often. It returns how many there were by now.
func collectSince(seen uint64) uint64 {
	if collections() == seen {
		runtime.GC()
	}
	return collections()
}

// collections counts those that have ended.
func collections() uint64 {
	samples := []metrics.Sample{{Name: "/gc/cycles/total:gc-cycles"}}
	metrics.Read(samples)
	return samples[0].Value.Uint64()
}
