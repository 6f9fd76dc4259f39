package control

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/internal/logkey"
	"nexd/key"
)

// A hub is one network in memory: a view of its members and the streams of
// those that are connected.
//
//	store ──Changes──> publisher ──> view          snapshots are read from it
//	                       │
//	                       └──change──> queue of each stream ──> watch handler
//
// One goroutine, the publisher, reads the store and applies what is new, in
// order of revision. A handler that changed the store calls sync, and answers
// its client when the change is in the view and in every queue. A failed read
// is tried again each second.
type hub struct {
	network store.Network
	epoch   string
	history history
	stun    []string
	relays  *relays
	store   store.Store
	log     *slog.Logger
	metrics *metrics
	queue   int       // changes a stream may be behind
	started time.Time // leases of before the start count from here

	kick  chan chan struct{} // requests of sync
	dirty chan struct{}      // one slot: a sync was given up before its request was taken

	mu       sync.Mutex // guards the fields below
	revision uint64     // of the view
	members  map[string]*member
	byKey    map[key.Public]string // ids
	streams  map[string]*stream    // by device id
	seen     map[string]time.Time  // not yet written
	closed   bool
}

// member is a device in the view.
type member struct {
	device     controlapi.Device
	joined     time.Time
	lastStream time.Time // when a stream was last open; zero when none was
}

// change is one step of the view, shared by all streams.
type change struct {
	revision uint64
	delta    controlapi.Delta
	line     []byte // the encoded event for those whose own record is not in it
}

func changeOf(c store.Changes) *change {
	ch := &change{revision: c.Revision}
	for _, d := range c.Upsert {
		ch.delta.Upsert = append(ch.delta.Upsert, deviceOf(d))
	}
	for _, t := range c.Remove {
		ch.delta.Remove = append(ch.delta.Remove, t.ID)
	}
	return ch
}

// encode makes the line once, for all streams.
func (c *change) encode() (err error) {
	c.line, err = encodeEvent(controlapi.Event{Type: controlapi.EventDelta, Revision: c.revision, Delta: &c.delta})
	return err
}

func newHub(n store.Network, epoch string, past history, st store.Store, cfg *Config, m *metrics, stun []string, rs *relays) *hub {
	return &hub{
		network: n, epoch: epoch, history: past, stun: stun, relays: rs, store: st, log: cfg.Log, metrics: m, queue: cfg.QueueLength,
		started: time.Now(), kick: make(chan chan struct{}), dirty: make(chan struct{}, 1),
		members: map[string]*member{}, byKey: map[key.Public]string{}, streams: map[string]*stream{}, seen: map[string]time.Time{},
	}
}

// load fills the view.
func (h *hub) load(ctx context.Context) error {
	c, err := h.store.Changes(ctx, h.network.ID, math.MaxUint64) // a revision no one has: everything
	if err != nil {
		return err
	}
	h.apply(c)
	return nil
}

// run publishes until ctx ends.
func (h *hub) run(ctx context.Context) {
	retry := time.NewTimer(time.Hour)
	retry.Stop()
	for {
		var waiting []chan struct{}
		select {
		case <-ctx.Done():
			return
		case done := <-h.kick:
			waiting = append(waiting, done)
		case <-h.dirty:
		case <-retry.C:
		}
		for more := true; more; {
			select {
			case done := <-h.kick:
				waiting = append(waiting, done)
			default:
				more = false
			}
		}
		if err := h.publish(ctx); err != nil && ctx.Err() == nil {
			h.log.Error("membership changes not published, trying again", logkey.Err, err)
			retry.Reset(time.Second)
		}
		for _, done := range waiting {
			close(done)
		}
	}
}

// sync returns when everything that was in the store when it was called is
// published, or when ctx ends or the store cannot be read. It is published in
// any case: who gives up does not take the change along.
func (h *hub) sync(ctx context.Context) {
	done := make(chan struct{})
	select {
	case h.kick <- done:
	case <-ctx.Done():
		select {
		case h.dirty <- struct{}{}:
		default: // it will look already
		}
		return
	}
	select {
	case <-done:
	case <-ctx.Done():
	}
}

func (h *hub) publish(ctx context.Context) error {
	h.mu.Lock()
	since := h.revision
	h.mu.Unlock()
	c, err := h.store.Changes(ctx, h.network.ID, since)
	if err != nil {
		return err
	}
	if c.Revision != since {
		h.apply(c)
	}
	return h.relays.follow(ctx) // who was denied lost its membership in one of these changes
}

// apply takes changes into the view and hands them to the streams.
func (h *hub) apply(c store.Changes) {
	var ch *change
	if !c.Whole {
		ch = changeOf(c)
		if err := ch.encode(); err != nil {
			h.log.Error("membership change cannot be encoded", logkey.Revision, c.Revision, logkey.Err, err)
		}
	}

	h.mu.Lock()
	defer h.mu.Unlock()
	if c.Whole {
		h.replaceAll(c)
	} else {
		for _, d := range c.Upsert {
			h.put(d)
		}
		for _, t := range c.Remove {
			h.remove(t.ID)
		}
	}
	h.revision = c.Revision
	for _, s := range h.streams {
		if c.Whole {
			s.resync()
		} else {
			s.push(ch, h.queue)
		}
	}
}

// replaceAll makes the view anew; h.mu is held.
func (h *hub) replaceAll(c store.Changes) {
	there := make(map[string]bool, len(c.Upsert))
	for _, d := range c.Upsert {
		there[d.ID] = true
		h.put(d)
	}
	for id := range h.members {
		if !there[id] {
			h.remove(id)
		}
	}
}

// put adds or changes a member; h.mu is held. A stream under a key the device
// no longer has (it was reclaimed) ends.
func (h *hub) put(d store.Device) {
	m := h.members[d.ID]
	if m == nil {
		m = &member{}
		h.members[d.ID] = m
	} else if old := m.device.PublicKey; old != d.PublicKey && h.byKey[old] == d.ID {
		delete(h.byKey, old)
	}
	m.device, m.joined = deviceOf(d), d.Joined
	if d.LastSeen.After(m.lastStream) {
		m.lastStream = d.LastSeen
	}
	h.byKey[d.PublicKey] = d.ID
	if s := h.streams[d.ID]; s != nil && s.key != d.PublicKey {
		s.finish(controlapi.ByeDeleted)
	}
}

// remove forgets a member and ends its stream; h.mu is held.
func (h *hub) remove(id string) {
	if m := h.members[id]; m != nil {
		if h.byKey[m.device.PublicKey] == id {
			delete(h.byKey, m.device.PublicKey)
		}
		delete(h.members, id)
	}
	delete(h.seen, id)
	if s := h.streams[id]; s != nil {
		s.finish(controlapi.ByeDeleted)
	}
}

// snapshot returns the map as device id sees it; false when it is no member.
func (h *hub) snapshot(id string) (*controlapi.Map, bool) {
	h.mu.Lock()
	self, ok := h.members[id]
	if !ok {
		h.mu.Unlock()
		return nil, false
	}
	m := &controlapi.Map{
		Epoch: h.epoch, Revision: h.revision, Self: self.device, Network: networkOf(h.network),
		Peers: make([]controlapi.Device, 0, len(h.members)), STUN: h.stun,
	}
	for other, peer := range h.members {
		if other != id {
			m.Peers = append(m.Peers, peer.device)
		}
	}
	h.mu.Unlock()
	slices.SortFunc(m.Peers, func(a, b controlapi.Device) int { return strings.Compare(a.Name, b.Name) })
	return m, true
}

// resume returns what a device that knows the network at revision since has to
// be told first.
func (h *hub) resume(ctx context.Context, id, epoch string, since uint64) (controlapi.Event, bool) {
	h.mu.Lock()
	now := h.revision
	h.mu.Unlock()
	known := epoch == h.epoch && h.history.has(since)
	if known && since == now {
		return controlapi.Event{Type: controlapi.EventHeartbeat, Revision: now}, true
	}
	if known && since < now && since > 0 {
		c, err := h.store.Changes(ctx, h.network.ID, since)
		switch {
		case err != nil || c.Whole:
		case len(c.Upsert) == 0 && len(c.Remove) == 0: // the service has restarted, and that is all
			return controlapi.Event{Type: controlapi.EventHeartbeat, Revision: c.Revision}, true
		default:
			return changeOf(c).eventFor(id), true
		}
	}
	m, ok := h.snapshot(id)
	if !ok {
		return controlapi.Event{}, false
	}
	return controlapi.Event{Type: controlapi.EventSnapshot, Revision: m.Revision, Map: m}, true
}

// eventFor is the change as device id is told it: its own record set apart.
func (c *change) eventFor(id string) controlapi.Event {
	d := c.delta
	if at := c.indexOf(id); at >= 0 {
		self := d.Upsert[at]
		d.Self = &self
		d.Upsert = slices.Concat(d.Upsert[:at], d.Upsert[at+1:])
	}
	return controlapi.Event{Type: controlapi.EventDelta, Revision: c.revision, Delta: &d}
}

func (c *change) indexOf(id string) int {
	return slices.IndexFunc(c.delta.Upsert, func(d controlapi.Device) bool { return d.ID == id })
}

func encodeEvent(e controlapi.Event) ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

func deviceOf(d store.Device) controlapi.Device {
	return controlapi.Device{
		ID: d.ID, Name: d.Name, PublicKey: d.PublicKey, Addresses: []netip.Addr{d.V4, d.V6}, Tags: d.Tags, Ephemeral: d.Ephemeral,
		Relays: d.Relays,
	}
}

func networkOf(n store.Network) controlapi.Network {
	return controlapi.Network{ID: n.ID, Name: n.Name, CIDRs: []netip.Prefix{n.V4, n.V6}, Domain: n.Domain}
}
