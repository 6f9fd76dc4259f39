package relayd

import (
	"sync"

	"nexd/internal/opsport"
)

// States of a relay, as /readyz tells them.
const (
	stateStarting = "starting"
	stateJoining  = "joining" // not registered yet, or not any more
	stateRunning  = "running"
	stateOffline  = "offline" // the service cannot be reached; the relay serves
	stateDraining = "draining"
)

// health is how a relay is doing, for /readyz, metrics and the log.
type health struct {
	mu         sync.Mutex // guards the fields below
	started    bool
	draining   bool
	registered bool
	deleted    bool
	serving    bool
	broken     error // why the relay does not serve
	web        error // why WebSocket clients are not taken
	service    error // why the service was not reached
}

// set changes the fields under the lock.
func (h *health) set(change func(*health)) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change(h)
}

// relay notes that the relay serves (nil), or why it does not.
func (h *health) relay(err error) {
	h.set(func(h *health) { h.serving, h.broken = err == nil, err })
}

// heard notes what came of talking to the service and reports whether that is a
// change of fortune.
func (h *health) heard(err error) (changed bool) {
	h.set(func(h *health) {
		changed = (err == nil) != (h.service == nil)
		h.service = err
	})
	return changed
}

// readiness is ready while devices are served, whether the service is there or not.
func (h *health) readiness() opsport.Readiness {
	h.mu.Lock()
	defer h.mu.Unlock()
	r := opsport.Readiness{State: stateRunning}
	say := func(reason string, err error) {
		if err != nil {
			reason += ": " + err.Error()
		}
		r.Reasons = append(r.Reasons, reason)
	}
	switch {
	case h.draining:
		r.State = stateDraining
		say("the relay is ending", nil)
	case !h.started:
		r.State = stateStarting
		say("the relay is starting", nil)
	case h.deleted:
		r.State = stateJoining
		say("the service no longer knows this relay: start it with a registration key to register again", nil)
	case !h.registered:
		r.State = stateJoining
		say("not registered with the service yet", h.service)
	case h.broken != nil:
		say("the relay does not run", h.broken)
	case !h.serving:
		say("the relay does not run yet", nil)
	case h.web != nil:
		say("WebSocket clients are not taken", h.web)
	default:
		r.Ready = true
		if h.service != nil {
			r.State = stateOffline
		}
	}
	return r
}
