package relayd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/internal/logkey"
	"nexd/internal/opsport"
	"nexd/internal/selfcert"
	"nexd/internal/stunserver/stunmetrics"
	"nexd/key"
	"nexd/relay/relaymetrics"
)

// Relay is a stand-alone relay. [New] opens everything, [Relay.Run] runs it.
type Relay struct {
	cfg    Config
	log    *slog.Logger
	lock   *os.File
	book   *book
	client *controlclient.Client
	pin    controlapi.Pin    // of the service's certificate; empty: none
	regKey controlapi.RegKey // zero: none was given

	udp  netip.AddrPort        // of relay and STUN
	web  net.Listener          // nil: no WebSocket clients
	cert *selfcert.Certificate // nil: likewise
	ops  *opsport.Port         // nil: none

	station atomic.Pointer[station] // nil: there is no relay now
	changed chan struct{}           // a token when the record has changed
	health  health

	ready  chan struct{}
	ran    sync.Once
	closed sync.Once

	holdMu sync.Mutex
	hold   net.PacketConn // keeps the UDP port until the first station has it
}

// New opens the state directory and the sockets, and starts nothing. Its errors
// name what to change; [*UsageError] says that the configuration cannot be
// meant. A relay that is not run has to be closed.
func New(cfg Config) (*Relay, error) {
	if err := cfg.Validate(); err != nil {
		return nil, &UsageError{Message: err.Error()}
	}
	cfg.setDefaults()
	r := &Relay{cfg: cfg, log: cfg.Log, changed: make(chan struct{}, 1), ready: make(chan struct{})}
	if err := r.open(); err != nil {
		r.Close()
		return nil, err
	}
	return r, nil
}

// open does first what can fail by a wrong flag.
func (r *Relay) open() error {
	if err := r.openGiven(); err != nil {
		return err
	}
	if err := r.openBook(); err != nil {
		return err
	}
	if err := r.listen(context.Background()); err != nil {
		return err
	}
	if err := r.openOwn(); err != nil {
		return err
	}
	if r.book.read().private.IsZero() {
		// Before it registers: without a place for its key there is no relay.
		return r.book.update(func(rec *record) { rec.private = key.NewPrivate() })
	}
	return nil
}

var errNotRegistered = &UsageError{
	Message: "this relay has not registered with a service yet",
	Hint:    "give --reg-key once (nexctl reg-key create --relay prints one)",
}

// firstStart refuses a start that cannot register before anything is made on disk.
func (r *Relay) firstStart() error {
	if r.cfg.RegKey == "" && !Registered(r.cfg.StateDir) {
		return errNotRegistered
	}
	return nil
}

// Registered reports whether dir holds the state of a relay. It makes nothing
// and does not say that the state can be read, or is still good.
func Registered(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, recordName))
	return err == nil || !errors.Is(err, fs.ErrNotExist)
}

// Run registers the relay if it has not, and serves until ctx ends and every
// device has left or the drain timeout is over. It returns nil when it ended
// because ctx did, and a [*UsageError] when the service refuses to register it.
// It closes the relay, and can be called once.
//
// What runs: the station, the heartbeats, WebSocket clients, the certificate's
// renewal, the operator's port.
func (r *Relay) Run(ctx context.Context) error {
	first := false
	r.ran.Do(func() { first = true })
	if !first {
		return errors.New("relay was run before")
	}
	defer r.Close()
	// The tasks outlive ctx: devices that leave at the end still need them.
	tasks, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	running.Go(func() { r.serveOps(tasks) })
	running.Go(func() { r.serveWeb(tasks) })
	if r.cert != nil {
		running.Go(func() { r.cert.Run(tasks) })
	}
	r.health.set(func(h *health) { h.started, h.registered = true, r.book.read().credential != "" })
	if r.book.read().credential == "" {
		if err := r.register(ctx); err != nil || ctx.Err() != nil {
			return err
		}
	}
	close(r.ready)

	var member sync.WaitGroup
	member.Go(func() { r.report(ctx) })
	r.keepStation(ctx)
	member.Wait()
	r.log.Info("relay ends")
	return nil
}

// serveOps runs the operator's port, if there is one.
func (r *Relay) serveOps(ctx context.Context) {
	if r.ops == nil {
		return
	}
	if err := r.ops.Run(ctx); err != nil {
		r.log.Error("the operator's port ended", logkey.Err, err)
	}
}

// listenOps opens the operator's port.
func (r *Relay) listenOps() error {
	if r.cfg.OpsListen == "" {
		return nil
	}
	var err error
	r.ops, err = opsport.Listen(r.cfg.OpsListen, opsport.Config{
		Readiness: r.health.readiness, Collect: []prometheus.Collector{collector{r}, relaymetrics.New(r.relayStats), stunmetrics.New(r.stunStats, r.stunQueued)},
	})
	return err
}

// Ready is closed when the relay has registered, now or once before.
func (r *Relay) Ready() <-chan struct{} { return r.ready }

// Public is the relay's key.
func (r *Relay) Public() key.Public { return r.book.read().private.Public() }

// UDPAddr is the address of relay and STUN.
func (r *Relay) UDPAddr() netip.AddrPort { return r.udp }

// WebAddr is the address WebSocket clients are taken at; invalid: they are not.
func (r *Relay) WebAddr() netip.AddrPort {
	if r.web == nil {
		return netip.AddrPort{}
	}
	return addrPort(r.web.Addr())
}

// OpsAddr is the address of the operator's port; nil: there is none.
func (r *Relay) OpsAddr() net.Addr {
	if r.ops == nil {
		return nil
	}
	return r.ops.Addr()
}

// String names the task.
func (r *Relay) String() string { return "relay" }

// Close releases what New opened. Run does it itself. It may be called more than once.
func (r *Relay) Close() error {
	var errs []error
	r.closed.Do(func() {
		if r.ops != nil {
			errs = append(errs, r.ops.Close())
		}
		if r.web != nil {
			if err := r.web.Close(); !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
		r.letGo()
		if r.client != nil {
			r.client.Close()
		}
		if r.lock != nil {
			errs = append(errs, r.lock.Close())
		}
	})
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("close relay: %w", err)
	}
	return nil
}

func addrPort(a net.Addr) netip.AddrPort {
	switch a := a.(type) {
	case *net.TCPAddr:
		return a.AddrPort()
	case *net.UDPAddr:
		return a.AddrPort()
	}
	return netip.AddrPort{}
}
