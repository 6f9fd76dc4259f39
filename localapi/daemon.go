package localapi

import (
	"context"
	"net/netip"
	"time"

	"nexd/rules"
)

// Daemon is what the socket serves: the running node. Every method is safe for
// concurrent use and returns soon unless it takes a context.
type Daemon interface {
	// Status returns the present state; the caller owns it.
	Status() Status
	// Changed returns a channel that is closed at the next change of state.
	Changed() <-chan struct{}
	// ChangeRules removes and adds rules in one step and keeps the result over
	// restarts. An error means that nothing was changed. The error is a
	// *UserError where the request was wrong.
	ChangeRules(ctx context.Context, add, remove []rules.Spec) error
	// Ping sends one echo request through the tunnel to a peer (name, id,
	// address or public key) and returns what came back.
	Ping(ctx context.Context, peer string) (PingResult, error)
	// Trace describes the path to a peer (as Ping names it), what else was tried,
	// and what happened lately. The error is a *UserError when there is no such peer.
	Trace(ctx context.Context, peer string) (Trace, error)
	// Netcheck measures what this host's network lets through, and returns what
	// it knows by the time ctx ends.
	Netcheck(ctx context.Context) (Netcheck, error)
	// Doctor judges what the daemon knows: what is wrong, and what to do.
	Doctor(ctx context.Context) (Doctor, error)
	// SetLogLevel changes the level: debug, info, warn or error.
	SetLogLevel(level string) error
	// LogLevel returns the present level.
	LogLevel() string
}

// PingResult is one answered echo request.
type PingResult struct {
	Peer    string        `json:"peer"`
	Address netip.Addr    `json:"address"`
	RTT     time.Duration `json:"-"`
	Millis  float64       `json:"rtt_ms"`
	Path    PathStatus    `json:"path"`
}

// UserError is a request that was wrong; Hint says what to write instead.
type UserError struct {
	Message string
	Hint    string
}

func (e *UserError) Error() string { return e.Message }
