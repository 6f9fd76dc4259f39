package opsport

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Config is what a port tells.
type Config struct {
	// Readiness answers /readyz. It is called by several goroutines and must not block.
	Readiness func() Readiness
	// Collect gives the daemon's metrics; those of Go and the process are added.
	Collect []prometheus.Collector
}

// Readiness is the body of /readyz; its status is 200 when Ready, else 503.
type Readiness struct {
	Ready   bool     `json:"ready"`
	State   string   `json:"state"`
	Reasons []string `json:"reasons"` // why it is not ready
}

// Port is an open port. [Port.Run] serves it.
type Port struct {
	listener net.Listener
	server   *http.Server
}

// scrapes is how many readers of /metrics are served at once.
const scrapes = 4

// Listen opens the port at address, which is host:port. Nothing is answered
// before Run.
func Listen(address string, cfg Config) (*Port, error) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	registry.MustRegister(cfg.Collect...)
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		r := cfg.Readiness()
		if r.Reasons == nil {
			r.Reasons = []string{}
		}
		w.Header().Set("Content-Type", "application/json")
		if !r.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		json.NewEncoder(w).Encode(r)
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapes}))
	return &Port{listener: l, server: &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}}, nil
}

// Addr is where the port is.
func (p *Port) Addr() net.Addr { return p.listener.Addr() }

// Run serves until ctx ends, then cuts what is open and returns nil.
func (p *Port) Run(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { p.server.Close() })
	defer stop()
	defer p.Close()
	if err := p.server.Serve(p.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the operator's port: %w", err)
	}
	return nil
}

// Close closes the port, whether it runs or not.
func (p *Port) Close() error {
	err := p.server.Close()
	if cerr := p.listener.Close(); !errors.Is(cerr, net.ErrClosed) {
		err = errors.Join(err, cerr)
	}
	return err
}
