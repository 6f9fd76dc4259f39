package relayd

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"nexd/internal/logkey"
	"nexd/internal/stunserver"
	"nexd/relay"
)

// maxSockets is how many sockets share the UDP port; there is one for each
// processor up to that.
const maxSockets = 8

// drainLook is how often an ending relay looks whether everybody has left.
const drainLook = 50 * time.Millisecond

// restartDelay lies between a relay that ended by an error and the next.
const restartDelay = time.Second

// errEnded is the error of a relay nobody ended.
var errEnded = errors.New("the relay ended by itself")

// station is the relay of package relay with STUN on the same port. It lives as
// long as any issuers are known.
type station struct {
	server *relay.Server
	others *relay.Others // what comes to its sockets and is none of its own
	stun   *stunserver.Server
}

func newStation(cfg *Config, rec record) (*station, error) {
	others := relay.NewOthers()
	server, err := relay.NewServer(relay.ServerConfig{
		Private: rec.private, Issuers: rec.issuers, Other: others.Take,
		Limits: relay.Limits{Sessions: cfg.MaxSessions, DeviceRate: cfg.DeviceRate}, Log: cfg.Log,
	})
	if err != nil {
		return nil, err
	}
	return &station{server: server, others: others, stun: stunserver.New(others, cfg.Log)}, nil
}

// run serves on sockets until ctx ends, then closes them.
func (s *station) run(ctx context.Context, sockets []*relay.Socket) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return s.server.Run(ctx, sockets...) })
	g.Go(func() error { return s.stun.Run(ctx) })
	return g.Wait()
}

// learn takes over whom to believe, and which devices are no members any more.
func (s *station) learn(rec record, now time.Time) error {
	if err := s.server.SetIssuers(rec.issuers); err != nil {
		return err
	}
	for _, d := range rec.denied {
		if denies(d, now) {
			s.server.Deny(relay.NetworkID(d.Network), d.Device, d.Until)
		}
	}
	return nil
}

// sessions counts the devices that are connected.
func (s *station) sessions() int {
	st := s.server.Stats()
	return st.SessionsUDP + st.SessionsTLS
}

// drain asks every device to use another relay, and returns when all have left
// or the time is over.
func (s *station) drain(limit time.Duration) {
	if limit < 0 {
		return
	}
	s.server.Drain()
	over := time.NewTimer(limit)
	defer over.Stop()
	look := time.NewTicker(drainLook)
	defer look.Stop()
	for s.sessions() > 0 {
		select {
		case <-over.C:
			return
		case <-look.C:
		}
	}
}

// keepStation runs a station while issuers are known, until ctx ends and it has drained.
func (r *Relay) keepStation(ctx context.Context) {
	for ctx.Err() == nil {
		rec := r.book.read()
		if len(rec.issuers) == 0 {
			select {
			case <-ctx.Done():
			case <-r.changed:
			}
			continue
		}
		err := r.oneStation(ctx, rec)
		if err == nil {
			continue
		}
		r.health.relay(err)
		r.log.Error("relay ended, starting it again", logkey.Err, err)
		select {
		case <-ctx.Done():
		case <-time.After(restartDelay):
		}
	}
}

// oneStation runs one until no issuers are known or ctx ends.
func (r *Relay) oneStation(ctx context.Context, rec record) error {
	s, err := newStation(&r.cfg, rec)
	if err != nil {
		return fmt.Errorf("make the relay: %w", err)
	}
	r.letGo()
	sockets, err := relay.Listen(ctx, r.udp.String(), min(runtime.GOMAXPROCS(0), maxSockets), r.cfg.Log)
	if err != nil {
		return err
	}
	// It outlives ctx: devices leave in their own time.
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	done := make(chan error, 1)
	go func() { done <- s.run(running, sockets) }()
	r.station.Store(s)
	defer r.station.Store(nil)
	r.health.relay(nil)
	r.log.Info("relay serves", logkey.Addr, r.udp.String())
	for len(rec.issuers) > 0 {
		if err := s.learn(rec, time.Now()); err != nil {
			r.log.Error("relay cannot use what the service says", logkey.Err, err)
		}
		select {
		case err := <-done:
			return errors.Join(errEnded, err)
		case <-ctx.Done():
			r.log.Info("relay drains", logkey.Count, s.sessions(), logkey.Wait, r.cfg.DrainTimeout)
			s.drain(r.cfg.DrainTimeout)
			stop()
			return <-done
		case <-r.changed:
		}
		rec = r.book.read()
	}
	stop()
	return <-done
}
