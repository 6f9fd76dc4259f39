package relayd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"golang.org/x/net/netutil"

	"nexd/internal/logkey"
	"nexd/relay"
)

// spareConnections is how many connections there may be besides one for each
// session: those that are not admitted yet.
const spareConnections = 2048

// defaultSessions is package relay's own limit.
const defaultSessions = 20_000

// serveWeb takes WebSocket clients until ctx ends. Before there is a relay, and
// after, they are told that there is none.
func (r *Relay) serveWeb(ctx context.Context) {
	if r.web == nil {
		return
	}
	sessions := r.cfg.MaxSessions
	if sessions == 0 {
		sessions = defaultSessions
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+relayPath, func(w http.ResponseWriter, req *http.Request) {
		s := r.station.Load()
		if s == nil {
			http.Error(w, "there is no relay here now", http.StatusServiceUnavailable)
			return
		}
		s.server.ServeHTTP(w, req)
	})
	// A WebSocket begins with HTTP/1.1; connections that became one are no
	// concern of these times any more.
	var protocols http.Protocols
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler: mux, Protocols: &protocols,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: r.cert.Get},
		ReadHeaderTimeout: 10 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 10 * time.Second, IdleTimeout: 10 * time.Second, MaxHeaderBytes: 16 << 10,
		ErrorLog: slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	err := server.ServeTLS(netutil.LimitListener(relay.Listener(r.web), sessions+spareConnections), "", "")
	if !errors.Is(err, http.ErrServerClosed) {
		r.health.set(func(h *health) { h.web = err })
		r.log.Error("WebSocket clients are not taken any more", logkey.Err, err)
	}
}
