package main

import (
	"encoding/json"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/confine"
	"gateway.local/gvproxy/internal/egress"
)

// api answers on the host's socket only. No handler of it is ever given to the virtual network.
type api struct {
	network     *Network
	forwards    *forwardTable
	confinement confine.State
	started     time.Time
}

// Stats is the body of GET /stats.
type Stats struct {
	// Guests is how many VMMs are connected: 0 or 1.
	Guests int64 `json:"guests"`
	// BytesFromGuest and BytesToGuest count Ethernet frames.
	BytesFromGuest uint64 `json:"bytesFromGuest"`
	BytesToGuest   uint64 `json:"bytesToGuest"`
	// DroppedFrames counts what was not a frame of the guest, or found no room.
	DroppedFrames uint64 `json:"droppedFrames"`
	// Connections is the number of relayed TCP connections, UDPFlows that of UDP flows.
	Connections int   `json:"connections"`
	UDPFlows    int64 `json:"udpFlows"`
	// ServiceConnections is how many lead to the host's services, those being opened included.
	ServiceConnections int   `json:"serviceConnections"`
	Forwards           int   `json:"forwards"`
	UptimeMs           int64 `json:"uptimeMs"`
	egress.Counts
}

func (a *api) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, map[string]bool{"ok": true})
	})
	mux.HandleFunc("GET /confinement", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, a.confinement)
	})
	mux.HandleFunc("GET /leases", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, a.network.pool.Leases())
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, a.stats())
	})
	mux.HandleFunc("GET /refusals", a.network.egress.Refused.Stream)
	mux.HandleFunc("GET /forwards", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, a.forwards.list())
	})
	mux.HandleFunc("POST /forwards", func(w http.ResponseWriter, r *http.Request) {
		f, ok := readForward(w, r)
		if !ok {
			return
		}
		opened, err := a.forwards.expose(f)
		if err != nil {
			replyError(w, err)
			return
		}
		reply(w, http.StatusOK, opened)
	})
	mux.HandleFunc("DELETE /forwards", func(w http.ResponseWriter, r *http.Request) {
		f, ok := readForward(w, r)
		if !ok {
			return
		}
		if err := a.forwards.unexpose(f); err != nil {
			replyError(w, err)
			return
		}
		reply(w, http.StatusOK, map[string]bool{"ok": true})
	})
	a.handleServices(mux)
	return mux
}

func (a *api) handleServices(mux *http.ServeMux) {
	services := a.network.services
	mux.HandleFunc("GET /services", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, services.list())
	})
	change := func(do func(config.HostService) error) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var service config.HostService
			err := readBody(w, r, "a host service", &service)
			if err == nil {
				err = do(service)
			}
			if err != nil {
				replyError(w, err)
				return
			}
			reply(w, http.StatusOK, services.list())
		}
	}
	mux.HandleFunc("POST /services", change(services.add))
	mux.HandleFunc("DELETE /services", change(func(s config.HostService) error { return services.remove(s.GuestPort) }))
}

func (a *api) stats() Stats {
	return Stats{
		Guests:         a.network.guests.Load(),
		BytesFromGuest: atomic.LoadUint64(&a.network.fabric.Received),
		BytesToGuest:   atomic.LoadUint64(&a.network.fabric.Sent),
		DroppedFrames:  a.network.dropped.Load(),
		Connections:    a.network.relays.count(),
		UDPFlows:       a.network.relays.udpFlows.Load(),

		ServiceConnections: a.network.services.count(),
		Forwards:           len(a.forwards.list()),
		UptimeMs:           time.Since(a.started).Milliseconds(),
		Counts:             a.network.egress.Refused.Totals(),
	}
}

func readForward(w http.ResponseWriter, r *http.Request) (Forward, bool) {
	var f Forward
	if err := readBody(w, r, "a forward", &f); err != nil {
		replyError(w, err)
		return f, false
	}
	return f, true
}

func readBody(w http.ResponseWriter, r *http.Request, what string, into any) error {
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, 64<<10))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return failf(codeBadRequest, "the body is not %s: %v", what, err)
	}
	return nil
}

func reply(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func replyError(w http.ResponseWriter, err error) {
	code, status := codeInternal, http.StatusInternalServerError
	var known *forwardError
	if errors.As(err, &known) {
		code = known.code
		status = map[string]int{
			codePortInUse: http.StatusConflict,
			codeNoRight:   http.StatusForbidden,
			codeNotFound:  http.StatusNotFound,
		}[code]
		if status == 0 {
			status = http.StatusBadRequest
		}
	}
	reply(w, status, map[string]string{"error": err.Error(), "code": code})
}
