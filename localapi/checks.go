package localapi

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"
)

// CheckTimeout is how long a trace, a netcheck or a doctor may take; a netcheck
// that takes longer answers with what it has by then.
const CheckTimeout = 15 * time.Second

// maxPeerName bounds how a peer may be named, in bytes.
const maxPeerName = 512

func (s *Server) trace(w http.ResponseWriter, r *http.Request) {
	peer := r.URL.Query().Get("peer")
	if peer == "" || len(peer) > maxPeerName {
		refuse(w, &UserError{Message: "malformed trace request", Hint: "name a peer: its name, id, address or public key"})
		return
	}
	check(w, r, "trace "+peer, func(ctx context.Context) (Trace, error) {
		return s.cfg.Daemon.Trace(ctx, peer)
	}, Trace.whole)
}

// netcheck is done once at a time: it sends packets.
func (s *Server) netcheck(w http.ResponseWriter, r *http.Request) {
	check(w, r, "netcheck", func(ctx context.Context) (Netcheck, error) {
		select {
		case s.measuring <- struct{}{}:
			defer func() { <-s.measuring }()
		case <-ctx.Done():
			return Netcheck{}, ctx.Err()
		}
		return s.cfg.Daemon.Netcheck(ctx)
	}, Netcheck.whole)
}

func (s *Server) doctor(w http.ResponseWriter, r *http.Request) {
	check(w, r, "doctor", s.cfg.Daemon.Doctor, Doctor.whole)
}

// check answers with a document that took some time, made whole.
func check[T any](w http.ResponseWriter, r *http.Request, what string, do func(context.Context) (T, error), whole func(T) T) {
	ctx, cancel := context.WithTimeout(r.Context(), CheckTimeout)
	defer cancel()
	doc, err := do(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = &Problem{Message: fmt.Sprintf("%s: no result within %s", what, CheckTimeout), Status: http.StatusGatewayTimeout}
	}
	if err != nil {
		refuse(w, err)
		return
	}
	reply(w, whole(doc))
}
