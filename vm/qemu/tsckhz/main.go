// Command tsckhz measures the frequency of this host's time stamp counter and prints it in kHz.
//
// An emulated guest sees the host's counter but cannot calibrate it on a busy machine: its kernel compares it with
// the emulated PIT, gives up when it is preempted, and then counts ticks, of which it loses many. The host
// can measure, since it has a clock to compare with.
package main

import (
	"fmt"
	"sort"
	"time"
)

// readTSC returns the time stamp counter.
func readTSC() uint64

// A sample is a counter value and the moment it was read, with how uncertain that moment is.
type sample struct {
	tsc   uint64
	at    time.Duration
	error time.Duration
}

const (
	tries    = 200
	apart    = 40 * time.Millisecond
	measures = 5
)

// tightest brackets the counter between two clock readings until one bracket was not interrupted.
func tightest(start time.Time) sample {
	best := sample{error: time.Hour}
	for range tries {
		before := time.Since(start)
		tsc := readTSC()
		after := time.Since(start)
		if width := after - before; width < best.error {
			best = sample{tsc: tsc, at: before + width/2, error: width}
		}
	}
	return best
}

func main() {
	start := time.Now()
	rates := make([]float64, measures)
	for i := range rates {
		first := tightest(start)
		time.Sleep(apart)
		second := tightest(start)
		rates[i] = float64(second.tsc-first.tsc) / (second.at - first.at).Seconds() / 1000
	}
	sort.Float64s(rates)
	fmt.Printf("%.0f\n", rates[measures/2])
}
