package control

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/internal/logkey"
	"nexd/key"
	"nexd/relay"
)

// credentialLife is how long a relay credential counts at most. Devices get another
// with each stream, and each RelayRenew while one lasts.
const credentialLife = 72 * time.Hour

// denialKept is how long a denial is remembered after the credentials it is
// about: the clocks of relays may differ.
const denialKept = 5 * time.Minute

// relays is what the service knows of relays: its own one, those that joined,
// and the device keys that are denied. Devices are told a list of those that
// were heard of lately; when it changes, tell is called.
type relays struct {
	issuer  ed25519.PrivateKey
	own     *relayTask
	store   store.Store
	log     *slog.Logger
	timeout time.Duration // silence after which a relay is left out
	leaving time.Duration // how long one that drains stays in the list
	tell    func()

	mu       sync.Mutex // guards the fields below
	byID     map[string]*relayState
	list     []controlapi.Relay
	denied   map[deniedKey]time.Time
	position uint64    // of the newest denial
	furthest time.Time // the clock's when it was furthest, of those that credentials were signed at
}

type deniedKey struct {
	network string
	device  key.Public
}

// relayState is a stand-alone relay.
type relayState struct {
	store.Relay
	heard    time.Time // of its last heartbeat, or of the service's start
	draining time.Time // since when; zero: it is not
	unsaved  bool      // LastSeen is newer than the store's
}

func newRelays(cfg *Config, st store.Store, issuer ed25519.PrivateKey, own *relayTask) *relays {
	return &relays{
		issuer: issuer, own: own, store: st, log: cfg.Log, timeout: cfg.RelayTimeout, leaving: cfg.RelayLeaving, tell: func() {},
		byID: map[string]*relayState{}, denied: map[deniedKey]time.Time{}, list: []controlapi.Relay{own.entry},
	}
}

// load reads what is in the store. A relay that was alive when the service
// ended counts as heard of now: it could not report meanwhile.
func (r *relays) load(ctx context.Context, now time.Time) error {
	all, err := r.store.Relays(ctx)
	if err != nil {
		return err
	}
	r.mu.Lock()
	for _, one := range all {
		st := &relayState{Relay: one}
		if one.Alive {
			st.heard = now
		}
		r.byID[one.ID] = st
	}
	r.relist(now)
	r.mu.Unlock()
	return r.follow(ctx)
}

// run looks after relays that fell silent, until ctx ends.
func (r *relays) run(ctx context.Context) {
	look := time.NewTicker(max(min(r.timeout, r.leaving)/8, 5*time.Millisecond))
	defer look.Stop()
	save := time.NewTicker(time.Minute)
	defer save.Stop()
	for {
		select {
		case <-ctx.Done():
			r.save(context.WithoutCancel(ctx))
			return
		case now := <-look.C:
			r.look(ctx, now)
		case <-save.C:
			r.save(ctx)
		}
	}
}

// look leaves out who was not heard of for too long, or is about to end.
func (r *relays) look(ctx context.Context, now time.Time) {
	r.mu.Lock()
	var lost []store.Relay
	for _, st := range r.byID {
		if st.Alive && now.Sub(st.heard) > r.timeout {
			st.Alive = false
			lost = append(lost, st.Relay)
		}
	}
	changed := r.relist(now)
	r.mu.Unlock()
	for _, one := range lost {
		r.log.Warn("relay is silent: devices are told of the others alone", logRelay, one.Name, logID, one.ID)
		r.write(ctx, one)
	}
	if changed {
		r.tell()
	}
}

// save writes the times that came up since the last call.
func (r *relays) save(ctx context.Context) {
	r.mu.Lock()
	var out []store.Relay
	for _, st := range r.byID {
		if st.unsaved {
			st.unsaved = false
			out = append(out, st.Relay)
		}
	}
	r.mu.Unlock()
	for _, one := range out {
		r.write(ctx, one)
	}
}

func (r *relays) write(ctx context.Context, one store.Relay) error {
	err := r.store.UpdateRelay(ctx, one.ID, store.RelayState{Address: one.Address, Version: one.Version, Alive: one.Alive, LastSeen: one.LastSeen})
	if err != nil && ctx.Err() == nil {
		r.log.Error("state of a relay not written", logRelay, one.Name, logkey.Err, err)
	}
	return err
}

// joined takes in a relay that joined, or joined again.
func (r *relays) joined(one store.Relay, now time.Time) {
	r.mu.Lock()
	if old := r.byID[one.ID]; old != nil {
		one.LastSeen = later(one.LastSeen, old.LastSeen)
		old.Relay = one
	} else {
		r.byID[one.ID] = &relayState{Relay: one}
	}
	changed := r.relist(now)
	r.mu.Unlock()
	if changed {
		r.tell()
	}
}

// heartbeat takes in a report; false: the relay was deleted meanwhile. What
// devices are told of is in the store before they are.
func (r *relays) heartbeat(ctx context.Context, id string, b controlapi.RelayHeartbeat, now time.Time) (bool, error) {
	r.mu.Lock()
	st := r.byID[id]
	if st == nil {
		r.mu.Unlock()
		return false, nil
	}
	next := st.Relay
	next.Address, next.Alive, next.LastSeen = b.RelayAddress, true, now
	if b.Version != "" {
		next.Version = printable(b.Version)
	}
	came := !st.Alive
	fresh := came || next.Version != st.Version || !reflect.DeepEqual(next.Address, st.Address)
	r.mu.Unlock()
	if fresh {
		if err := r.write(ctx, next); err != nil {
			return false, err
		}
	}

	r.mu.Lock()
	if r.byID[id] != st {
		r.mu.Unlock()
		return false, nil
	}
	// Not the rest: the relay may have joined again meanwhile.
	st.Address, st.Version, st.Alive, st.LastSeen = next.Address, next.Version, next.Alive, next.LastSeen
	st.heard, st.unsaved = now, !fresh
	switch {
	case !b.Draining:
		st.draining = time.Time{}
	case st.draining.IsZero():
		st.draining = now
	}
	changed := r.relist(now)
	r.mu.Unlock()
	if came {
		r.log.Info("relay is there", logRelay, next.Name, logID, id)
	}
	if changed {
		r.tell()
	}
	return true, nil
}

// removed forgets a relay.
func (r *relays) removed(id string, now time.Time) {
	r.mu.Lock()
	delete(r.byID, id)
	changed := r.relist(now)
	r.mu.Unlock()
	if changed {
		r.tell()
	}
}

// listed reports whether devices are told of a relay.
func (r *relays) listed(st *relayState, now time.Time) bool {
	return st.Alive && (st.draining.IsZero() || now.Sub(st.draining) < r.leaving)
}

// relist makes the list anew and reports whether it changed; r.mu is held.
func (r *relays) relist(now time.Time) bool {
	list := []controlapi.Relay{r.own.entry}
	for _, st := range r.byID {
		if r.listed(st, now) {
			list = append(list, relayOf(st.Relay))
		}
	}
	slices.SortFunc(list[1:], func(a, b controlapi.Relay) int { return cmp.Compare(a.Name, b.Name) })
	if reflect.DeepEqual(list, r.list) {
		return false
	}
	r.list = list
	return true
}

// known reports whether a relay of that id is the service's, listed or not.
func (r *relays) known(id string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return id == r.own.entry.ID || r.byID[id] != nil
}

// others reports whether devices know relays besides the service's own.
func (r *relays) others() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.list) > 1
}

// listFor is what a device is told, with a fresh credential.
func (r *relays) listFor(network string, device key.Public, now time.Time) *controlapi.RelayList {
	r.mu.Lock()
	list, denied := r.list, r.denied[deniedKey{network, device}]
	if at := now.Round(0); at.After(r.furthest) {
		r.furthest = at
	}
	r.mu.Unlock()
	c := relay.Credential{Device: device, Network: relay.NetworkOf(network), Expires: now.Add(credentialLife - deletionTakes).Truncate(time.Second)}
	if !c.Expires.After(denied) {
		c.Expires = denied.Add(time.Second) // it was deleted and joined again
	}
	return &controlapi.RelayList{Relays: list, Credential: c.Sign(r.issuer)}
}

// issuers are the public keys relays believe.
func (r *relays) issuers() [][]byte { return [][]byte{r.issuer.Public().(ed25519.PublicKey)} }

// infos describes all relays; homes counts the devices of each.
func (r *relays) infos(homes map[string]int, now time.Time) []controlapi.RelayInfo {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := []controlapi.RelayInfo{{
		Relay: r.own.entry, Embedded: true, Listed: true, Devices: homes[r.own.entry.ID], LastSeen: utc(now),
	}}
	for _, st := range r.byID {
		out = append(out, controlapi.RelayInfo{
			Relay: relayOf(st.Relay), Listed: r.listed(st, now), Draining: !st.draining.IsZero(), Devices: homes[st.ID],
			Version: st.Version, Created: utc(st.Created), LastSeen: utc(st.LastSeen), RegKeyID: st.RegKeyID,
		})
	}
	slices.SortFunc(out[1:], func(a, b controlapi.RelayInfo) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func relayOf(one store.Relay) controlapi.Relay {
	return controlapi.Relay{ID: one.ID, Name: one.Name, PublicKey: one.PublicKey, UDP: one.Address.UDP, URL: one.Address.URL, Pin: one.Address.Pin}
}
