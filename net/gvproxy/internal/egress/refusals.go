package egress

import (
	"encoding/json"
	"net/http"
	"sync"
)

// refusal is the first of its kind. A line of GET /refusals, which stays open.
type refusal struct {
	Kind   kind   `json:"kind"`
	Target string `json:"target"`
	Reason reason `json:"reason"`
}

// Counts is the part of GET /stats that counts what the guest was refused: connections, datagrams, pings, questions.
type Counts struct {
	RefusedTCP  uint64 `json:"refusedTcp"`
	RefusedUDP  uint64 `json:"refusedUdp"`
	RefusedICMP uint64 `json:"refusedIcmp"`
	RefusedDNS  uint64 `json:"refusedDns"`
}

// Refusals counts what was refused and keeps the first of each kind, so that a guest cannot fill anything.
type Refusals struct {
	lock   sync.Mutex
	counts map[kind]uint64
	first  []refusal
	// grown is closed when first gets another one, and replaced.
	grown chan struct{}
}

func newRefusals() *Refusals {
	return &Refusals{counts: map[kind]uint64{}, grown: make(chan struct{})}
}

// add counts one, but for what merely nobody answers in the virtual network.
func (r *Refusals) add(what kind, target func() string, why reason) {
	if why == reasonVirtual {
		return
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	r.counts[what]++
	if r.counts[what] > 1 {
		return
	}
	r.first = append(r.first, refusal{what, target(), why})
	close(r.grown)
	r.grown = make(chan struct{})
}

// Totals returns the counts.
func (r *Refusals) Totals() Counts {
	r.lock.Lock()
	defer r.lock.Unlock()
	return Counts{r.counts[kindTCP], r.counts[kindUDP], r.counts[kindICMP], r.counts[kindDNS]}
}

// since returns those after the first so many, and what is closed when there are more.
func (r *Refusals) since(seen int) ([]refusal, <-chan struct{}) {
	r.lock.Lock()
	defer r.lock.Unlock()
	return r.first[seen:], r.grown
}

// Stream writes each refusal as a line when it comes, until the client goes.
func (r *Refusals) Stream(w http.ResponseWriter, request *http.Request) {
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.WriteHeader(http.StatusOK)
	encoder, flush := json.NewEncoder(w), http.NewResponseController(w)
	for seen := 0; ; {
		found, grown := r.since(seen)
		for _, one := range found {
			_ = encoder.Encode(one)
		}
		seen += len(found)
		if flush.Flush() != nil {
			return
		}
		select {
		case <-grown:
		case <-request.Context().Done():
			return
		}
	}
}
