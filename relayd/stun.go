package relayd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"nexd/internal/logkey"
	"nexd/internal/opsport"
	"nexd/internal/sockerr"
	"nexd/internal/stunserver"
	"nexd/internal/stunserver/stunmetrics"
)

// maxSTUNListen is how many sockets a STUN server may have.
const maxSTUNListen = 16

// STUNConfig is everything a stand-alone STUN server can be told.
type STUNConfig struct {
	// Listen are UDP addresses, host:port; empty: DefaultRelayListen. Two of them
	// show a client behind a NAT whether its mapping depends on whom it asks.
	Listen []string
	// OpsListen is the address of /healthz, /readyz and /metrics; empty: none.
	OpsListen string
	// Log may be nil.
	Log *slog.Logger
}

// Validate reports the first thing that is wrong, by the name of its flag.
func (c *STUNConfig) Validate() error {
	if len(c.Listen) > maxSTUNListen {
		return fmt.Errorf("--stun-listen is given %d times: at most %d", len(c.Listen), maxSTUNListen)
	}
	for _, address := range c.Listen {
		if err := sockerr.Check("--stun-listen", address); err != nil {
			return err
		}
	}
	return sockerr.Check("--ops-listen", c.OpsListen)
}

// STUN is a stand-alone STUN server. [NewSTUN] opens everything, [STUN.Run] runs it.
type STUN struct {
	log     *slog.Logger
	sockets []net.PacketConn
	servers []*stunserver.Server
	ops     *opsport.Port // nil: none

	ran    sync.Once
	closed sync.Once
	mu     sync.Mutex // guards state
	state  string
}

// NewSTUN opens the sockets and starts nothing. A server that is not run has to
// be closed.
func NewSTUN(cfg STUNConfig) (*STUN, error) {
	if err := cfg.Validate(); err != nil {
		return nil, &UsageError{Message: err.Error()}
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if len(cfg.Listen) == 0 {
		cfg.Listen = []string{DefaultRelayListen}
	}
	s := &STUN{log: cfg.Log, state: stateStarting}
	if err := s.open(cfg); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

func (s *STUN) open(cfg STUNConfig) error {
	for _, address := range cfg.Listen {
		pc, err := net.ListenPacket("udp", address)
		if err != nil {
			return sockerr.Listen("--stun-listen", address, err)
		}
		s.sockets = append(s.sockets, pc)
		s.servers = append(s.servers, stunserver.New(pc, cfg.Log))
	}
	if cfg.OpsListen == "" {
		return nil
	}
	var err error
	s.ops, err = opsport.Listen(cfg.OpsListen, opsport.Config{
		Readiness: s.readiness, Collect: []prometheus.Collector{stunmetrics.New(s.stats, nil)},
	})
	if err != nil {
		return sockerr.Listen("--ops-listen", cfg.OpsListen, err)
	}
	return nil
}

// Run answers until ctx ends, closes the sockets and returns nil. It can be
// called once.
func (s *STUN) Run(ctx context.Context) error {
	first := false
	s.ran.Do(func() { first = true })
	if !first {
		return errors.New("stun server was run before")
	}
	defer s.Close()
	g, ctx := errgroup.WithContext(ctx)
	for i, server := range s.servers {
		g.Go(func() error { return server.Run(ctx) })
		s.log.Info("stun server answers", logkey.Addr, s.sockets[i].LocalAddr().String())
	}
	if s.ops != nil {
		g.Go(func() error { return s.ops.Run(ctx) })
	}
	s.setState(stateRunning)
	err := g.Wait()
	s.log.Info("stun server ends")
	return err
}

func (s *STUN) setState(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

func (s *STUN) readiness() opsport.Readiness {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state != stateRunning {
		return opsport.Readiness{State: s.state, Reasons: []string{"the server is starting"}}
	}
	return opsport.Readiness{Ready: true, State: s.state}
}

// Addrs are the addresses of the sockets, in the order of the configuration.
func (s *STUN) Addrs() []netip.AddrPort {
	var out []netip.AddrPort
	for _, pc := range s.sockets {
		out = append(out, addrPort(pc.LocalAddr()))
	}
	return out
}

// OpsAddr is the address of the operator's port; nil: there is none.
func (s *STUN) OpsAddr() net.Addr {
	if s.ops == nil {
		return nil
	}
	return s.ops.Addr()
}

// String names the task.
func (s *STUN) String() string { return "stun server" }

// Close releases what NewSTUN opened. Run does it itself. It may be called more
// than once.
func (s *STUN) Close() error {
	var errs []error
	s.closed.Do(func() {
		for _, pc := range s.sockets {
			if err := pc.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
		if s.ops != nil {
			errs = append(errs, s.ops.Close())
		}
	})
	return errors.Join(errs...)
}

// stats adds up what the sockets did.
func (s *STUN) stats() (sum stunserver.Stats) {
	for _, server := range s.servers {
		st := server.Stats()
		sum.Requests += st.Requests
		sum.Answers += st.Answers
		sum.Errors += st.Errors
		sum.Junk += st.Junk
		sum.Limited += st.Limited
		sum.ReadErrors += st.ReadErrors
		sum.WriteErrors += st.WriteErrors
	}
	return sum
}
