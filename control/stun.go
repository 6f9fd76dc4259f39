package control

import (
	"context"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"nexd/internal/logkey"
	"nexd/internal/stunserver"
)

// stunTask keeps the STUN server running. It fails alone: the API goes on,
// /readyz tells.
type stunTask struct {
	pc     net.PacketConn // nil: no STUN
	server Runner
	log    *slog.Logger
	failed atomic.Pointer[string]
}

func newSTUNTask(cfg *Config, pc net.PacketConn) *stunTask {
	t := &stunTask{pc: pc, log: cfg.Log}
	switch {
	case pc == nil:
	case cfg.STUN != nil:
		t.server = cfg.STUN(pc, cfg.Log)
	default:
		t.server = stunserver.New(pc, cfg.Log)
	}
	return t
}

// run serves until ctx ends, and tries again after an error.
func (t *stunTask) run(ctx context.Context) {
	for t.server != nil && ctx.Err() == nil {
		err := t.server.Run(ctx)
		if ctx.Err() != nil {
			return
		}
		reason := "it ended"
		if err != nil {
			reason = err.Error()
		}
		t.failed.Store(&reason)
		t.log.Error("STUN server ended, starting it again", logkey.Reason, reason)
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
			t.failed.Store(nil)
		}
	}
}

// problem says why STUN does not work now.
func (t *stunTask) problem() string {
	if p := t.failed.Load(); p != nil {
		return *p
	}
	return ""
}
