package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"gateway.local/gvproxy/internal/config"
	"gateway.local/gvproxy/internal/confine"
	"gateway.local/gvproxy/internal/egress"
	"gateway.local/gvproxy/internal/network"
	"gateway.local/gvproxy/internal/relay"
)

// codeInternal is for every error without a code of its own.
const codeInternal = "internal"

// api answers on the host's socket only. No handler of it is ever given to the virtual network.
type api struct {
	path        string
	network     *network.Network
	forwards    *relay.Forwards
	confinement confine.State
	started     time.Time
}

// Stats is the body of GET /stats.
type Stats struct {
	network.Traffic
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
		reply(w, http.StatusOK, a.network.Leases())
	})
	mux.HandleFunc("GET /stats", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, a.stats())
	})
	mux.HandleFunc("GET /refusals", a.network.Egress.Refused.Stream)
	mux.HandleFunc("GET /forwards", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, a.forwards.List())
	})
	mux.HandleFunc("POST /forwards", func(w http.ResponseWriter, r *http.Request) {
		f, ok := readForward(w, r)
		if !ok {
			return
		}
		opened, err := a.forwards.Expose(f)
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
		if err := a.forwards.Unexpose(f); err != nil {
			replyError(w, err)
			return
		}
		reply(w, http.StatusOK, map[string]bool{"ok": true})
	})
	a.handleServices(mux)
	return mux
}

func (a *api) handleServices(mux *http.ServeMux) {
	services := a.network.Relays.Services
	mux.HandleFunc("GET /services", func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, services.List())
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
			reply(w, http.StatusOK, services.List())
		}
	}
	mux.HandleFunc("POST /services", change(services.Add))
	mux.HandleFunc("DELETE /services", change(func(s config.HostService) error { return services.Remove(s.GuestPort) }))
}

func (a *api) stats() Stats {
	return Stats{
		Traffic:     a.network.Traffic(),
		Connections: a.network.Relays.Count(),
		UDPFlows:    a.network.Relays.UDPFlows(),

		ServiceConnections: a.network.Relays.Services.Count(),
		Forwards:           len(a.forwards.List()),
		UptimeMs:           time.Since(a.started).Milliseconds(),
		Counts:             a.network.Egress.Refused.Totals(),
	}
}

func readForward(w http.ResponseWriter, r *http.Request) (relay.Forward, bool) {
	var f relay.Forward
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
		return &relay.Error{Code: relay.CodeBadRequest, Text: fmt.Sprintf("the body is not %s: %v", what, err)}
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
	var known *relay.Error
	if errors.As(err, &known) {
		code = known.Code
		status = map[string]int{
			relay.CodePortInUse: http.StatusConflict,
			relay.CodeNoRight:   http.StatusForbidden,
			relay.CodeNotFound:  http.StatusNotFound,
		}[code]
		if status == 0 {
			status = http.StatusBadRequest
		}
	}
	reply(w, status, map[string]string{"error": err.Error(), "code": code})
}
