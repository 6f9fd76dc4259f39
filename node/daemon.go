package node

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"nexd/internal/logkey"
	"nexd/localapi"
	"nexd/rules"
	"nexd/state"
)

// pingTimeout bounds one ping where the caller gave no bound of its own.
const pingTimeout = 10 * time.Second

var _ localapi.Daemon = (*Node)(nil)

// startAPI opens the daemon's socket and serves it, and the operator's port.
func (n *Node) startAPI(ctx context.Context, tasks *errgroup.Group) error {
	if n.cfg.UnixSocket != "" {
		srv, err := localapi.NewServer(localapi.ServerConfig{Path: n.cfg.UnixSocket, Daemon: n, Log: n.log})
		if err != nil {
			return &UsageError{Message: "--unix-socket: " + err.Error(), Hint: "give a shorter --unix-socket, below /run for instance"}
		}
		if err := srv.Listen(ctx); err != nil {
			return err
		}
		tasks.Go(func() error { return srv.Run(ctx) })
	}
	if n.cfg.OpsListen != "" {
		srv, err := listenOps(n.cfg.OpsListen, n)
		if err != nil {
			return err
		}
		tasks.Go(func() error { return srv.Run(ctx) })
	}
	return nil
}

// Changed implements localapi.Daemon.
func (n *Node) Changed() <-chan struct{} { return n.changed.wait() }

// ChangeRules implements localapi.Daemon.
func (n *Node) ChangeRules(ctx context.Context, add, remove []rules.Spec) error {
	select {
	case n.turn <- struct{}{}:
		defer func() { <-n.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	err := n.book.change(add, remove, func(added, removed []state.Rule) error {
		var before state.Data
		err := n.store.Update(func(d *state.Data) {
			before.Rules, before.RemovedRules = d.Rules, d.RemovedRules
			d.Rules, d.RemovedRules = added, removed
		})
		if err == nil {
			return nil
		}
		// The store would write the refused rules with its next change.
		n.store.Update(func(d *state.Data) { d.Rules, d.RemovedRules = before.Rules, before.RemovedRules })
		lost := newDiskError("nothing was changed, since the rules cannot be kept over restarts", err)
		return &localapi.Problem{Message: lost.Error(), Hint: lost.Hint(), Status: http.StatusInsufficientStorage}
	})
	if err != nil {
		var re *rules.Error
		if errors.As(err, &re) {
			return &localapi.UserError{Message: re.Message(), Hint: re.Hint}
		}
		return err
	}
	for _, s := range remove {
		n.log.Info("rule removed", logkey.Direction, s.Direction().String(), logkey.Rule, s.String())
	}
	for _, s := range add {
		n.log.Info("rule added", logkey.Direction, s.Direction().String(), logkey.Rule, s.String())
	}
	n.applyRules()
	return nil
}

// Ping implements localapi.Daemon.
func (n *Node) Ping(ctx context.Context, peer string) (localapi.PingResult, error) {
	dev, ok := n.roster.peer(peer)
	if !ok {
		return localapi.PingResult{}, unknownPeer(peer)
	}
	n.mu.Lock()
	pl := n.plane
	n.mu.Unlock()
	if pl == nil || len(dev.Addresses) == 0 {
		return localapi.PingResult{}, errors.New("the device has not joined the mesh yet")
	}
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	to := dev.Addresses[0]
	rtt, err := pl.stack.Ping(ctx, to)
	if err != nil {
		return localapi.PingResult{}, fmt.Errorf("ping %s (%s): %w", dev.Name, to, err)
	}
	return localapi.PingResult{Peer: dev.Name, Address: to, RTT: rtt, Millis: millis(rtt), Path: pl.path(dev.PublicKey)}, nil
}

// SetLogLevel implements localapi.Daemon.
func (n *Node) SetLogLevel(level string) error {
	var l slog.Level
	err := l.UnmarshalText([]byte(level))
	if err != nil || !strings.EqualFold(level, l.String()) { // slog knows INFO+2, too
		return &localapi.UserError{Message: fmt.Sprintf("log level %q", level), Hint: "use debug, info, warn or error"}
	}
	n.cfg.LogLevel.Set(l)
	return nil
}

// LogLevel implements localapi.Daemon.
func (n *Node) LogLevel() string {
	switch l := n.cfg.LogLevel.Level(); {
	case l < slog.LevelInfo:
		return "debug"
	case l < slog.LevelWarn:
		return "info"
	case l < slog.LevelError:
		return "warn"
	default:
		return "error"
	}
}
