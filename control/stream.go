package control

import (
	"sync"
	"time"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/internal/logkey"
	"nexd/key"
)

// maxSignals is how many signals wait in a stream; further ones are not
// delivered, which their sender is told.
const maxSignals = 256

// stream is what waits for one device's watch handler. Whoever fills it never
// blocks: when too many changes wait they are all dropped, and the handler
// sends one fresh snapshot in their place.
type stream struct {
	id         string
	key        key.Public
	credential store.Hash
	wake       chan struct{} // one slot: something is there to take

	mu      sync.Mutex // guards the fields below
	changes []*change
	signals []controlapi.Signal
	behind  bool   // changes were dropped
	relays  bool   // the list of relays changed
	bye     string // reason to end, the first one given
}

// batch is what take found.
type batch struct {
	changes []*change
	signals []controlapi.Signal
	behind  bool
	relays  bool
	bye     string
}

func newStream(d store.Device) *stream {
	return &stream{id: d.ID, key: d.PublicKey, credential: d.Credential, wake: make(chan struct{}, 1)}
}

// ring wakes the handler; s.mu is held or not.
func (s *stream) ring() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// push adds a change.
func (s *stream) push(c *change, limit int) {
	s.mu.Lock()
	switch {
	case s.behind:
	case len(s.changes) >= limit:
		s.behind, s.changes = true, nil
	default:
		s.changes = append(s.changes, c)
	}
	s.mu.Unlock()
	s.ring()
}

// resync has the handler send a snapshot.
func (s *stream) resync() {
	s.mu.Lock()
	s.behind, s.changes = true, nil
	s.mu.Unlock()
	s.ring()
}

// relist has the handler send the list of relays; one that has not sent the
// last one yet sends the newest only.
func (s *stream) relist() {
	s.mu.Lock()
	s.relays = true
	s.mu.Unlock()
	s.ring()
}

// signal adds a signal, or reports that there is no room.
func (s *stream) signal(sig controlapi.Signal) bool {
	s.mu.Lock()
	ok := s.bye == "" && len(s.signals) < maxSignals
	if ok {
		s.signals = append(s.signals, sig)
	}
	s.mu.Unlock()
	s.ring()
	return ok
}

// finish has the handler say goodbye and end.
func (s *stream) finish(reason string) {
	s.mu.Lock()
	if s.bye == "" {
		s.bye = reason
	}
	s.mu.Unlock()
	s.ring()
}

// take empties the queue.
func (s *stream) take() batch {
	s.mu.Lock()
	defer s.mu.Unlock()
	b := batch{changes: s.changes, signals: s.signals, behind: s.behind, relays: s.relays, bye: s.bye}
	s.changes, s.signals, s.behind, s.relays = nil, nil, false, false
	return b
}

// open makes s the stream of its device; an older one ends. It returns false
// when the service is shutting down.
func (h *hub) open(s *stream, now time.Time) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	if old := h.streams[s.id]; old != nil {
		old.finish(controlapi.ByeReplaced)
	}
	h.streams[s.id] = s
	h.noteSeen(s.id, now)
	return true
}

// end takes s out, if it is still the stream of its device.
func (h *hub) end(s *stream, now time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.streams[s.id] != s {
		return
	}
	delete(h.streams, s.id)
	h.noteSeen(s.id, now)
}

// noteSeen remembers when a device was there, for its lease now and for the
// store later; h.mu is held.
func (h *hub) noteSeen(id string, now time.Time) {
	if m := h.members[id]; m != nil {
		m.lastStream = now
		h.seen[id] = now
	}
}

// noteJoined starts a device's lease anew, and ends streams under a credential
// it no longer has.
func (h *hub) noteJoined(d store.Device) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.members[d.ID]; m != nil {
		m.joined = d.Joined
	}
	if s := h.streams[d.ID]; s != nil && s.credential != d.Credential {
		s.finish(controlapi.ByeReplaced)
	}
}

// connected reports whether a device has a stream.
func (h *hub) connected(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.streams[id] != nil
}

// deliver passes a signal to the member it is for. known is false when there
// is no such member; ok when it was put into the member's stream.
func (h *hub) deliver(from, to key.Public, payload []byte) (known, ok bool) {
	h.mu.Lock()
	id, known := h.byKey[to]
	s := h.streams[id]
	h.mu.Unlock()
	if s == nil || s.key != to {
		return known, false
	}
	return known, s.signal(controlapi.Signal{From: from, Payload: payload})
}

// presence returns whether a device is connected and when it last was.
func (h *hub) presence(id string) (connected bool, last time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if m := h.members[id]; m != nil {
		last = m.lastStream
	}
	return h.streams[id] != nil, last
}

// tellRelays has every stream told of the relays there are now.
func (h *hub) tellRelays() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, s := range h.streams {
		s.relist()
	}
}

// homes counts devices by their home relay.
func (h *hub) homes() map[string]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[string]int{}
	for _, m := range h.members {
		if len(m.device.Relays) > 0 {
			out[m.device.Relays[0]]++
		}
	}
	return out
}

// counts is for the metrics.
func (h *hub) counts() (devices, connected int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.members), len(h.streams)
}

// shutdown ends all streams and lets none begin.
func (h *hub) shutdown() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
	for _, s := range h.streams {
		s.finish(controlapi.ByeShutdown)
	}
	if n := len(h.streams); n > 0 {
		h.log.Info("ending the streams", logkey.Count, n)
	}
}
