package main

import (
	"encoding/json"
	"net/http"
	"sync"
)

// Refusal is the first of its kind. A line of GET /refusals, which stays open.
type Refusal struct {
	Kind   kind   `json:"kind"`
	Target string `json:"target"`
	Reason reason `json:"reason"`
}

// refusedCounts is the part of Stats that counts what the guest was refused: connections, datagrams, pings, questions.
type refusedCounts struct {
	RefusedTCP  uint64 `json:"refusedTcp"`
	RefusedUDP  uint64 `json:"refusedUdp"`
	RefusedICMP uint64 `json:"refusedIcmp"`
	RefusedDNS  uint64 `json:"refusedDns"`
}

// refusals counts what was refused and keeps the first of each kind, so that a guest cannot fill anything.
type refusals struct {
	lock   sync.Mutex
	counts map[kind]uint64
	first  []Refusal
	// grown is closed when first gets another one, and replaced.
	grown chan struct{}
}

func newRefusals() *refusals {
	return &refusals{counts: map[kind]uint64{}, grown: make(chan struct{})}
}

// add counts one, but for what merely nobody answers in the virtual network.
func (r *refusals) add(what kind, target func() string, why reason) {
	if why == reasonVirtual {
		return
	}
	r.lock.Lock()
	defer r.lock.Unlock()
	r.counts[what]++
	if r.counts[what] > 1 {
		return
	}
	r.first = append(r.first, Refusal{what, target(), why})
	close(r.grown)
	r.grown = make(chan struct{})
}

func (r *refusals) totals() refusedCounts {
	r.lock.Lock()
	defer r.lock.Unlock()
	return refusedCounts{r.counts[kindTCP], r.counts[kindUDP], r.counts[kindICMP], r.counts[kindDNS]}
}

// since returns those after the first so many, and what is closed when there are more.
func (r *refusals) since(seen int) ([]Refusal, <-chan struct{}) {
	r.lock.Lock()
	defer r.lock.Unlock()
	return r.first[seen:], r.grown
}

// stream writes each Refusal as a line when it comes, until the client goes.
func (r *refusals) stream(w http.ResponseWriter, request *http.Request) {
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
