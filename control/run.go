package control

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"nexd/internal/logkey"
	"nexd/relay"
)

// Run serves until ctx ends, then asks the relay's clients to use another, says
// goodbye to every stream, lets requests under way finish for a moment, and
// closes the service. Its error is nil
// when it ended because ctx did. It can be called once.
//
// What runs: the publisher of the hub, housekeeping (leases, last-seen times,
// old tombstones), the certificate's renewal, the relay and STUN on its sockets,
// the list of relays, and the HTTPS server.
func (s *Service) Run(ctx context.Context) error {
	first := false
	s.ran.Do(func() { first = true })
	if !first {
		return errors.New("control service was run before")
	}
	defer s.Close()
	if err := s.hub.load(ctx); err != nil {
		return fmt.Errorf("load network: %w", err)
	}
	if err := s.relays.load(ctx, time.Now()); err != nil {
		return fmt.Errorf("load relays: %w", err)
	}
	// The tasks outlive ctx: requests under way at the end still need them.
	tasks, stop := context.WithCancel(context.WithoutCancel(ctx))
	var running sync.WaitGroup
	for _, task := range []func(context.Context){s.hub.run, s.housekeeping, s.cert.Run, s.relay.run, s.relays.run, s.stun.run} {
		running.Go(func() { task(tasks) })
	}
	defer running.Wait()
	defer stop()

	srv := s.server()
	served := make(chan error, 1)
	go func() { served <- srv.ServeTLS(relay.Listener(s.https), "", "") }()
	s.log.Info("control service runs", logkey.Addr, s.Addr().String(), logkey.URL, s.url)
	close(s.ready)

	var err error
	select {
	case <-ctx.Done():
	case err = <-served:
		served <- err
		err = fmt.Errorf("serve %s: %w", s.Addr(), err)
	}
	s.shutdown(tasks, srv)
	<-served
	s.flushSeen(tasks)
	return err
}

// shutdown ends the streams and then the server.
func (s *Service) shutdown(ctx context.Context, srv *http.Server) {
	s.log.Info("control service ends")
	s.relay.drain(ctx, s.relays.others(), s.cfg.RelayGrace)
	s.hub.shutdown()
	ctx, cancel := context.WithTimeout(ctx, s.cfg.ShutdownGrace)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		s.log.Warn("requests cut at the end", logkey.Err, err)
		srv.Close()
	}
}
