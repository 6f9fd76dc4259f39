// Package localapitest has a daemon for tests: it keeps what it was told and
// answers with what it was given.
package localapitest

import (
	"context"
	"slices"
	"sync"

	"nexd/localapi"
	"nexd/rules"
)

// Daemon is a localapi.Daemon without a node. The zero value is ready to use.
type Daemon struct {
	// OnPing answers pings; nil: no peer is known.
	OnPing func(ctx context.Context, peer string) (localapi.PingResult, error)

	// OnTrace answers traces; nil: no peer is known.
	OnTrace func(ctx context.Context, peer string) (localapi.Trace, error)
	// OnNetcheck and OnDoctor answer the others; nil: an empty document.
	OnNetcheck func(ctx context.Context) (localapi.Netcheck, error)
	OnDoctor   func(ctx context.Context) (localapi.Doctor, error)

	mu sync.Mutex
	// mu guards the fields below.
	status  localapi.Status
	set     rules.Set
	level   string
	changed chan struct{}
}

var _ localapi.Daemon = (*Daemon)(nil)

// Update changes the status and wakes those who wait.
func (d *Daemon) Update(change func(*localapi.Status)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	change(&d.status)
	d.wake()
}

// wake closes the channel of Changed; d.mu is held.
func (d *Daemon) wake() {
	if d.changed != nil {
		close(d.changed)
		d.changed = nil
	}
}

// Status returns what Update made of it, with the present rules.
func (d *Daemon) Status() localapi.Status {
	d.mu.Lock()
	defer d.mu.Unlock()
	st := d.status
	st.Peers = slices.Clone(st.Peers)
	for _, spec := range d.set.Specs() {
		st.Rules = append(st.Rules, localapi.RuleStatus{
			Direction: spec.Direction().String(), Rule: spec.String(), State: localapi.RuleListening,
		})
	}
	return st
}

// Changed returns a channel that is closed by the next Update.
func (d *Daemon) Changed() <-chan struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.changed == nil {
		d.changed = make(chan struct{})
	}
	return d.changed
}

// ChangeRules keeps the rules in memory.
func (d *Daemon) ChangeRules(_ context.Context, add, remove []rules.Spec) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	next, err := d.set.Change(add, remove)
	if err != nil {
		return err
	}
	d.set = *next
	d.wake()
	return nil
}

// Ping asks OnPing.
func (d *Daemon) Ping(ctx context.Context, peer string) (localapi.PingResult, error) {
	if d.OnPing == nil {
		return localapi.PingResult{}, unknown(peer)
	}
	return d.OnPing(ctx, peer)
}

func unknown(peer string) error {
	return &localapi.UserError{Message: "no peer " + peer, Hint: "nexctl nexd peers list shows them"}
}

// Trace asks OnTrace.
func (d *Daemon) Trace(ctx context.Context, peer string) (localapi.Trace, error) {
	if d.OnTrace == nil {
		return localapi.Trace{}, unknown(peer)
	}
	return d.OnTrace(ctx, peer)
}

// Netcheck asks OnNetcheck.
func (d *Daemon) Netcheck(ctx context.Context) (localapi.Netcheck, error) {
	if d.OnNetcheck == nil {
		return localapi.Netcheck{}, nil
	}
	return d.OnNetcheck(ctx)
}

// Doctor asks OnDoctor.
func (d *Daemon) Doctor(ctx context.Context) (localapi.Doctor, error) {
	if d.OnDoctor == nil {
		return localapi.Doctor{}, nil
	}
	return d.OnDoctor(ctx)
}

// SetLogLevel keeps the level.
func (d *Daemon) SetLogLevel(level string) error {
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, level) {
		return &localapi.UserError{Message: "log level " + level, Hint: "use debug, info, warn or error"}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.level = level
	return nil
}

// LogLevel returns it; info when none was set.
func (d *Daemon) LogLevel() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.level == "" {
		return "info"
	}
	return d.level
}
