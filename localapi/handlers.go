package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"nexd/internal/buildinfo"
	"nexd/rules"
)

// DefaultPingTimeout and MaxPingTimeout bound the wait for an echo.
const (
	DefaultPingTimeout = 5 * time.Second
	MaxPingTimeout     = 25 * time.Second
)

// handler is the table of requests.
func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", s.status)
	mux.HandleFunc("GET /v1/wait", s.wait)
	mux.HandleFunc("GET /v1/rules", s.listRules)
	mux.HandleFunc("POST /v1/rules", s.changeRules)
	mux.HandleFunc("POST /v1/ping", s.ping)
	mux.HandleFunc("GET /v1/trace", s.trace)
	mux.HandleFunc("GET /v1/netcheck", s.netcheck)
	mux.HandleFunc("GET /v1/doctor", s.doctor)
	mux.HandleFunc("GET /v1/log-level", s.logLevel)
	mux.HandleFunc("PUT /v1/log-level", s.setLogLevel)
	mux.HandleFunc("GET /v1/version", s.version)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		refuse(w, &Problem{
			Message: fmt.Sprintf("no such request: %s %s", r.Method, r.URL.Path),
			Hint:    "the daemon may be of another version: compare nexctl version with nexctl nexd version",
			Status:  http.StatusNotFound,
		})
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.slot <- struct{}{}:
			defer func() { <-s.slot }()
			mux.ServeHTTP(w, r)
		default:
			refuse(w, &Problem{Message: fmt.Sprintf("the daemon answers %d requests already", maxRequests), Hint: "try again later", Status: http.StatusServiceUnavailable})
		}
	})
}

func (s *Server) status(w http.ResponseWriter, _ *http.Request) {
	reply(w, whole(s.cfg.Daemon.Status()))
}

func (s *Server) version(w http.ResponseWriter, _ *http.Request) { reply(w, buildinfo.Get()) }

func (s *Server) listRules(w http.ResponseWriter, _ *http.Request) {
	reply(w, RuleList{Rules: whole(s.cfg.Daemon.Status()).Rules})
}

func (s *Server) changeRules(w http.ResponseWriter, r *http.Request) {
	var change RuleChange
	if err := decode(w, r, &change); err != nil {
		refuse(w, err)
		return
	}
	if n := len(change.Add) + len(change.Remove); n == 0 || n > maxRules {
		refuse(w, &UserError{Message: fmt.Sprintf("%d rules to change", n), Hint: fmt.Sprintf("name 1 to %d rules to add or remove", maxRules)})
		return
	}
	add, err := parseAll(change.Add)
	if err != nil {
		refuse(w, err)
		return
	}
	remove, err := parseAll(change.Remove)
	if err != nil {
		refuse(w, err)
		return
	}
	if err := s.cfg.Daemon.ChangeRules(r.Context(), add, remove); err != nil {
		refuse(w, err)
		return
	}
	s.listRules(w, r)
}

func parseAll(texts []RuleText) ([]rules.Spec, error) {
	specs := make([]rules.Spec, 0, len(texts))
	for _, t := range texts {
		spec, err := t.Parse()
		if err != nil {
			return nil, err
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

func (s *Server) ping(w http.ResponseWriter, r *http.Request) {
	var req PingRequest
	if err := decode(w, r, &req); err != nil {
		refuse(w, err)
		return
	}
	if req.Peer == "" || len(req.Peer) > maxPeerName || req.TimeoutMillis < 0 || req.TimeoutMillis > MaxPingTimeout.Milliseconds() {
		refuse(w, &UserError{Message: "malformed ping request", Hint: fmt.Sprintf("name a peer, and a timeout of at most %s", MaxPingTimeout)})
		return
	}
	timeout := time.Duration(req.TimeoutMillis) * time.Millisecond
	if timeout == 0 {
		timeout = DefaultPingTimeout
	}
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	result, err := s.cfg.Daemon.Ping(ctx, req.Peer)
	if errors.Is(err, context.DeadlineExceeded) {
		err = &Problem{Message: fmt.Sprintf("no answer from %s within %s", req.Peer, timeout), Status: http.StatusGatewayTimeout}
	}
	if err != nil {
		refuse(w, err)
		return
	}
	result.Millis = millis(result.RTT)
	reply(w, result)
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (s *Server) logLevel(w http.ResponseWriter, _ *http.Request) {
	reply(w, LogLevel{Level: s.cfg.Daemon.LogLevel()})
}

func (s *Server) setLogLevel(w http.ResponseWriter, r *http.Request) {
	var want LogLevel
	err := decode(w, r, &want)
	if err == nil {
		err = s.cfg.Daemon.SetLogLevel(want.Level)
	}
	if err != nil {
		refuse(w, err)
		return
	}
	s.logLevel(w, r)
}

// decode reads one JSON document of bounded size with known fields only.
func decode(w http.ResponseWriter, r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, end := d.Token(); end != io.EOF {
			err = errors.New("more than one document")
		}
	}
	var tooLarge *http.MaxBytesError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &tooLarge):
		return &Problem{Message: fmt.Sprintf("request larger than %d bytes", maxBody), Status: http.StatusRequestEntityTooLarge}
	}
	return &UserError{Message: fmt.Sprintf("malformed request: %v", err)}
}

// reply writes a document. A write error is the reader's loss: the connection
// is gone.
func reply(w http.ResponseWriter, doc any) { write(w, http.StatusOK, doc) }

// refuse writes an error as a Problem with the status that fits it.
func refuse(w http.ResponseWriter, err error) {
	p := &Problem{Message: err.Error(), Status: http.StatusInternalServerError}
	var (
		problem *Problem
		user    *UserError
		syntax  *rules.Error
	)
	switch {
	case errors.As(err, &problem):
		p = problem
	case errors.As(err, &user):
		p.Hint, p.Status = user.Hint, http.StatusBadRequest
	case errors.As(err, &syntax):
		p.Hint, p.Status = syntax.Hint, http.StatusBadRequest
	}
	write(w, p.Status, p)
}

func write(w http.ResponseWriter, status int, doc any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(doc)
}
