package control

import (
	"context"
	"log/slog"

	"nexd/internal/logkey"
	"nexd/internal/stunserver"
	"nexd/relay"
)

// stunTask is the STUN server on the relay's sockets. It fails alone: the API
// goes on, /readyz tells.
type stunTask struct {
	server *stunserver.Server // nil: no STUN
	log    *slog.Logger
	failed failure
}

// newSTUNTask reads what comes to the relay's sockets and is none of its own;
// nil: there are none.
func newSTUNTask(cfg *Config, others *relay.Others) *stunTask {
	t := &stunTask{log: cfg.Log}
	if others != nil {
		t.server = stunserver.New(others, cfg.Log)
	}
	return t
}

// run serves until ctx ends.
func (t *stunTask) run(ctx context.Context) {
	if t.server == nil {
		return
	}
	if err := t.server.Run(ctx); ctx.Err() == nil {
		t.log.Error("STUN server ended: restart the service", logkey.Reason, t.failed.note(err))
	}
}
