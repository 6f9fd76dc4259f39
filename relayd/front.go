package relayd

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"nexd/internal/logkey"
	"nexd/relay"
)

// maxEntering is how many connections there may be that are no WebSocket yet.
// Those that are one the relay bounds itself.
const maxEntering = 2048

// entrance lets no more connections in than there are places, until others have
// become WebSockets or have ended. It does not wrap them: what is between TCP
// and TLS would hide the TCP connection from the relay.
type entrance struct {
	net.Listener
	places chan struct{}
	closed chan struct{}
	once   sync.Once
}

func newEntrance(l net.Listener, places int) *entrance {
	return &entrance{Listener: l, places: make(chan struct{}, places), closed: make(chan struct{})}
}

// Accept implements [net.Listener].
func (e *entrance) Accept() (net.Conn, error) {
	select {
	case e.places <- struct{}{}:
	case <-e.closed:
		return nil, net.ErrClosed
	}
	c, err := e.Listener.Accept()
	if err != nil {
		<-e.places
	}
	return c, err
}

// Close implements [net.Listener].
func (e *entrance) Close() error {
	e.once.Do(func() { close(e.closed) })
	return e.Listener.Close()
}

// left is for http.Server.ConnState, which tells of each connection once that it
// was taken over or has ended.
func (e *entrance) left(_ net.Conn, state http.ConnState) {
	if state == http.StateHijacked || state == http.StateClosed {
		<-e.places
	}
}

// serveWeb takes WebSocket clients until ctx ends. Before there is a relay, and
// after, they are told that there is none.
func (r *Relay) serveWeb(ctx context.Context) {
	if r.web == nil {
		return
	}
	in := newEntrance(relay.Listener(r.web), maxEntering)
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
		ConnState: in.left,
		ErrorLog:  slog.NewLogLogger(r.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { server.Close() })
	defer stop()
	err := server.ServeTLS(in, "", "")
	if !errors.Is(err, http.ErrServerClosed) {
		r.health.set(func(h *health) { h.web = err })
		r.log.Error("WebSocket clients are not taken any more", logkey.Err, err)
	}
}
