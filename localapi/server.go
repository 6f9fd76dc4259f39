package localapi

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"nexd/internal/logkey"
)

// ServerConfig says what is served where.
type ServerConfig struct {
	// Path of the socket. Its directory is made (0700) when missing.
	Path string
	// Daemon answers.
	Daemon Daemon
	// Log takes what goes wrong outside any request; nil: nowhere.
	Log *slog.Logger
}

// maxRequests is how many requests are answered at a time; one more is refused
// with 503.
const maxRequests = 256

// Server answers on the daemon's socket.
type Server struct {
	cfg  ServerConfig
	http *http.Server
	slot chan struct{}
	// measuring holds a token while a netcheck goes on.
	measuring chan struct{}

	// mu guards the field below.
	mu   sync.Mutex
	sock *socket
}

// NewServer checks the configuration. Nothing is opened yet.
func NewServer(cfg ServerConfig) (*Server, error) {
	if err := CheckSocketPath(cfg.Path); err != nil {
		return nil, err
	}
	if cfg.Daemon == nil {
		return nil, errors.New("local API without a daemon")
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	s := &Server{cfg: cfg, slot: make(chan struct{}, maxRequests), measuring: make(chan struct{}, 1)}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      30 * time.Second,
		IdleTimeout:       30 * time.Second,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(cfg.Log.Handler(), slog.LevelDebug),
	}
	return s, nil
}

// Listen claims the socket, so that what is wrong with it is known before
// anything else starts. [Server.Run] does it when it was not done.
func (s *Server) Listen(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sock != nil {
		return nil
	}
	sock, err := claim(ctx, s.cfg.Path)
	if err != nil {
		return err
	}
	s.sock = sock
	return nil
}

// Close releases the socket of a server that was never run. After Run it does
// nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	sock := s.sock
	s.sock = nil
	s.mu.Unlock()
	if sock == nil {
		return nil
	}
	return sock.Close()
}

// Run serves until ctx ends; waiting requests end with it. It returns nil then.
func (s *Server) Run(ctx context.Context) error {
	if err := s.Listen(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	sock := s.sock
	s.sock = nil
	s.mu.Unlock()

	s.http.BaseContext = func(net.Listener) context.Context { return ctx }
	ended, end := context.WithCancel(ctx)
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ended.Done()
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if err := s.http.Shutdown(grace); err != nil {
			s.cfg.Log.Debug("requests cut at the end", logkey.Err, err)
			_ = s.http.Close()
		}
	}()
	err := s.http.Serve(sock)
	end()
	<-stopped
	sock.Close()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("serve socket %s: %w", s.cfg.Path, err)
}
