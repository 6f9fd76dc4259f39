package control

import (
	"context"
	"log/slog"
	"net"
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
	failed failure
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
		t.log.Error("STUN server ended, starting it again", logkey.Reason, t.failed.note(err))
		select {
		case <-ctx.Done():
		case <-time.After(time.Second):
			t.failed.clear()
		}
	}
}
