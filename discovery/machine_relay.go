package discovery

import (
	"net/netip"
	"slices"
	"time"

	"nexd/internal/relaypath"
)

// relayTarget is what is known of a relay as a way to one peer.
type relayTarget struct {
	number uint16
	rank   int  // 0 the peer's home, then its others, then ours; unranked: only if the peer is heard on it
	up     bool // we have a session there
	shaky  bool // it owes us an answer
	tls    bool
	heard  time.Time // packets of the peer last came through it
	absent time.Time // it said that the peer is not there
	dead   time.Time // the peer did not answer through it
	used   time.Time // a session was asked for
}

const (
	unranked   = 100
	heardFor   = 30 * time.Second // a peer is where it was heard this lately
	absentFor  = 10 * time.Second // and not where it was missed
	deadFor    = 10 * time.Second
	useAgain   = 30 * time.Second // a session in use is asked for again
	relayIdle  = 2 * time.Minute  // a relayed path without data is given up
	penaltyUDP = 20 * time.Millisecond
	penaltyTLS = 40 * time.Millisecond
)

// setRelays makes the list the relays that are known, with their ranks.
func (m *machine) setRelays(list []relayTarget) {
	kept := m.targets[:0]
	for _, t := range m.targets {
		if t.relay == nil || slices.ContainsFunc(list, func(r relayTarget) bool { return r.number == t.relay.number }) {
			kept = append(kept, t)
		} else if t == m.best {
			t.relay.up = false // route finds another
			kept = append(kept, t)
		}
	}
	clear(m.targets[len(kept):])
	m.targets = kept
	for _, r := range list {
		t := m.find(relaypath.Addr(r.number))
		if t == nil {
			t = &target{candidate: candidate{Addr: relaypath.Addr(r.number), Kind: relayed}, relay: &relayTarget{number: r.number}}
			m.targets = append(m.targets, t)
		}
		if r.up && !t.relay.up {
			t.relay.absent, t.relay.dead = time.Time{}, time.Time{}
		}
		t.relay.rank, t.relay.up, t.relay.shaky, t.relay.tls = r.rank, r.up, r.shaky, r.tls
	}
}

// heardBy: packets of the peer came through a relay.
func (m *machine) heardBy(relay uint16, at time.Time) {
	if t := m.find(relaypath.Addr(relay)); t != nil && at.After(t.relay.heard) {
		t.relay.heard, t.relay.absent = at, time.Time{}
	}
}

// presence: a relay says whether the peer is there.
func (m *machine) presence(now time.Time, relay uint16, here bool) {
	t := m.find(relaypath.Addr(relay))
	if t == nil {
		return
	}
	t.relay.absent = time.Time{}
	if !here {
		t.relay.absent = now
	}
}

// usable reports whether a relay may carry packets to the peer now.
func (r *relayTarget) usable(now time.Time) bool {
	return r.up && !within(r.absent, now, absentFor) && (r.rank < unranked || within(r.heard, now, heardFor))
}

// badness orders usable relays: less is better.
func (r *relayTarget) badness(now time.Time) int {
	n := r.rank
	if !within(r.heard, now, heardFor) {
		n += unranked
	}
	if r.shaky {
		n += 4 * unranked
	}
	if within(r.dead, now, deadFor) {
		n += 8 * unranked
	}
	return n
}

// bestRelay returns the relay to take instead of except, or nil.
func (m *machine) bestRelay(now time.Time, except *target) *target {
	var best *target
	for _, t := range m.targets {
		if t.relay != nil && t != except && t.relay.usable(now) && (best == nil || t.relay.badness(now) < best.relay.badness(now)) {
			best = t
		}
	}
	return best
}

// relay gives the peer a relay while there is no direct path, and keeps one at
// hand while there is.
func (m *machine) relay(now time.Time) {
	if !m.inUse(now) {
		return
	}
	m.wantRelays(now)
	if m.direct() {
		return
	}
	if m.best != nil && m.best.relay.usable(now) {
		return
	}
	if t := m.bestRelay(now, nil); t != nil && t != m.best {
		m.adopt(now, t, "relayed")
		m.check(now, t, true)
	} else if t == nil && m.best != nil && !m.best.relay.up {
		m.drop(now, "the relay is lost")
	}
}

// wantRelays asks for sessions with the relays the peer can be reached at: its
// home, and its next one while the home does not serve.
func (m *machine) wantRelays(now time.Time) {
	if !within(m.lastUse(), now, activeFor) {
		return
	}
	for _, t := range m.targets {
		r := t.relay
		if r == nil || r.rank >= unranked && t != m.best || within(r.used, now, useAgain) {
			continue
		}
		if t == m.best || r.rank == 0 || !m.homeServes(now) {
			r.used = now
			m.do(action{do: doUse, relay: r.number})
		}
	}
}

// homeServes reports whether the peer's home relay is usable.
func (m *machine) homeServes(now time.Time) bool {
	return slices.ContainsFunc(m.targets, func(t *target) bool {
		return t.relay != nil && t.relay.rank == 0 && t.relay.usable(now) && !within(t.relay.dead, now, deadFor)
	})
}

// spare is the second way for handshakes, and for all packets in doubt.
func (m *machine) spare(now time.Time) netip.AddrPort {
	if m.best == nil {
		return netip.AddrPort{}
	}
	if t := m.bestRelay(now, m.best); t != nil {
		return t.Addr
	}
	return netip.AddrPort{}
}

// both reports whether packets take the path and the spare.
func (m *machine) both(now time.Time) bool {
	return within(m.doubted, now, bothFor) && m.spare(now).IsValid()
}

// tellRoute queues an action when packets are to go elsewhere than last told.
func (m *machine) tellRoute(now time.Time) {
	var r route
	if m.best != nil {
		r.path, r.spare = m.best.Addr, m.spare(now)
		r.both = m.both(now)
	}
	if r == m.told {
		return
	}
	reason := m.reason
	if r.path == m.told.path {
		reason = ""
	}
	m.told, m.reason = r, ""
	m.do(action{do: doPath, route: r, reason: reason})
}
