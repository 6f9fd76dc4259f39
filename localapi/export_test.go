package localapi

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
)

// Handler returns a function that answers a request without a socket.
func Handler(d Daemon) func(*http.Request) int {
	s := &Server{cfg: ServerConfig{Daemon: d, Log: slog.New(slog.DiscardHandler)}, slot: make(chan struct{}, 1), measuring: make(chan struct{}, 1)}
	h := s.handler()
	return func(r *http.Request) int {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Code
	}
}
