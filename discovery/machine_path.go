package discovery

import (
	"net/netip"
	"time"
)

// Activity is what passed between this node and a peer.
type Activity struct {
	// Sent is when WireGuard packets last went to the peer, Received when some
	// last came over its path.
	Sent, Received time.Time
	// Large is when one with more than 1280 bytes in it was last sent.
	Large time.Time
	// Relay is the relay some last came through, by its number, and RelayAt when.
	Relay   uint16
	RelayAt time.Time
}

// answered: a check of addr was answered after rtt.
func (m *machine) answered(now time.Time, addr netip.AddrPort, rtt time.Duration) {
	t := m.find(addr)
	if t == nil {
		return // gave way to another meanwhile
	}
	t.answered(now, rtt)
	if t.relay != nil {
		t.relay.dead, t.relay.absent = time.Time{}, time.Time{}
		t.relay.heard = now
	}
	switch {
	case t == m.best:
		m.asked, m.misses, m.strict = time.Time{}, 0, false
		m.trust(now)
	case t.relay != nil:
		// Relays are chosen by who is there, not by who answers first.
		switch {
		case m.direct() || m.best == nil:
		case !m.doubted.IsZero():
			m.adopt(now, t, "the relay before it is silent")
		default:
			m.compare(now, t)
		}
	case !m.direct():
		m.adopt(now, t, "found")
		m.settled = now.Add(settleFor)
	case !m.doubted.IsZero():
		m.adopt(now, t, "the path before it is silent")
	case t.n == 1 && m.sent.After(m.heard()) && now.Sub(m.heard()) > minRTO:
		// A new address answers while the path is silent: the peer's NAT made another mapping.
		m.adopt(now, t, "the peer's address changed")
	case !m.asked.IsZero() && now.Sub(m.heard()) > silence+minRTO && now.Sub(m.asked) > m.rto():
		m.adopt(now, t, "the path before it is silent")
	case now.Before(m.settled):
		if t.cost()+settleMargin < m.best.cost() {
			m.adopt(now, t, "faster")
		}
	default:
		m.compare(now, t)
	}
}

// compare switches to t when it was better three times in a row, by more than
// noise, and the last switch is long ago.
func (m *machine) compare(now time.Time, t *target) {
	cost := m.best.cost()
	if t.cost()+max(switchMargin, cost/10) >= cost {
		t.wins = 0
		return
	}
	if t.wins++; t.wins >= switchWins && now.Sub(m.switched) >= switchPause {
		m.adopt(now, t, "faster")
	}
}

// adopt makes t the path.
func (m *machine) adopt(now time.Time, t *target, reason string) {
	m.best, m.reason = t, reason
	m.asked, m.misses, m.doubted, m.strict = time.Time{}, 0, time.Time{}, false
	m.switched, m.since = now, now
	m.received = time.Time{} // that was another path
	for _, x := range m.targets {
		x.wins = 0
	}
	if t.relay != nil {
		return
	}
	m.lost = nil
	m.phase, m.searching = Idle, time.Time{}
	m.rounds, m.rescues, m.nextRound = 0, 0, time.Time{}
	// The first passes go on: a better address may be among those that follow.
	kept := m.queue[:0]
	for _, p := range m.queue {
		if p.pass <= 2 && p.addr != t.Addr {
			kept = append(kept, p)
		}
	}
	m.queue = kept
}

// drop leaves the peer without a path.
func (m *machine) drop(now time.Time, reason string) {
	m.best, m.reason = nil, reason
	m.asked, m.misses, m.doubted, m.strict = time.Time{}, 0, time.Time{}, false
	m.since = now
}

// trust ends doubt about the path.
func (m *machine) trust(now time.Time) {
	if !m.doubted.IsZero() {
		m.doubted, m.since = time.Time{}, now
	}
}

// heard is the last sign of life on the path. Data counts, but its source is
// not proved here: only for a while after an answer that is.
func (m *machine) heard() time.Time {
	if m.received.After(m.best.pong) && (m.best.relay != nil || m.received.Sub(m.best.pong) <= trustData) {
		return m.received
	}
	return m.best.pong
}

// rto is how long an answer may take.
func (m *machine) rto() time.Duration {
	if m.best.n == 0 {
		if m.best.relay != nil {
			return firstRelayRTO
		}
		return minRTO
	}
	return max(minRTO, min(3*m.best.rtt(), maxRTO))
}

// firstRelayRTO is that of a relayed path nothing was measured on: the peer may
// yet have to open a session there.
const firstRelayRTO = 500 * time.Millisecond

// ping checks the path, unless an answer is awaited already.
func (m *machine) ping(now time.Time) {
	if m.asked.IsZero() {
		m.check(now, m.best, true)
	}
}

// pingOrVerify checks the path; with a check of the size in use, when that is in doubt
// while large packets flow.
func (m *machine) pingOrVerify(now time.Time) {
	if m.best.size != nil && m.best.size.verifying() {
		return // it is asked already, and followed by a small check if it is not answered
	}
	if !m.verify(now) {
		m.ping(now)
	}
}

// tick lets time pass.
func (m *machine) tick(now time.Time, seen Activity) {
	if gap := seen.Received.Sub(m.received); gap > 0 {
		m.flows = gap <= dense
	}
	m.sent, m.received = seen.Sent, seen.Received
	m.sawLarge(seen.Large)
	if m.best != nil && !seen.Received.After(m.switched) {
		m.received = time.Time{}
	}
	if seen.Relay != 0 {
		m.heardBy(seen.Relay, seen.RelayAt)
		m.detoured(now, seen.RelayAt)
	}
	if !m.direct() && m.sent.After(m.wanted) {
		m.wanted = m.sent
	}
	m.relay(now)
	m.runQueue(now)
	if !m.offerAt.IsZero() && !now.Before(m.offerAt) {
		m.askForOffer(now)
	}
	if !m.replyUntil.IsZero() && !now.Before(m.replyUntil) {
		m.unanswered(now)
		m.runQueue(now)
	}
	switch {
	case m.best == nil:
	case m.doubted.IsZero():
		m.keep(now)
	default:
		m.doubt(now)
	}
	m.recover(now)
	m.goOn(now)
	m.size(now) // before the route: packets are small enough for it when they take it
	m.tellRoute(now)
}

// detoured: the peer sent something through a relay at that time. Perhaps our
// packets do not reach it, though its own still come: only an answer counts then.
func (m *machine) detoured(now, at time.Time) {
	if !m.direct() || !m.doubted.IsZero() || !at.After(m.switched.Add(settleFor)) || !within(at, now, silence) || within(m.detour, now, activePing) {
		return
	}
	m.detour = now
	m.asked, m.strict = time.Time{}, true
	m.ping(now)
}

// overslept: for that long nothing was looked at here. Answers have as much longer to come.
func (m *machine) overslept(d time.Duration) {
	for _, t := range []*time.Time{&m.asked, &m.repeated, &m.doubted} {
		if !t.IsZero() {
			*t = t.Add(d)
		}
	}
}

// keep looks after a good path.
func (m *machine) keep(now time.Time) {
	use, heard := m.lastUse(), m.heard()
	if !m.asked.IsZero() && heard.After(m.asked) && !m.strict {
		m.asked, m.misses = time.Time{}, 0 // data is life too
	}
	if !m.asked.IsZero() {
		if now.Sub(m.asked) >= m.rto() {
			m.suspect(now)
		}
		return
	}
	pause := now.Sub(latest(m.best.asked, m.best.pong))
	unheard := m.sent.After(heard) && now.Sub(heard) >= silence && pause >= silence ||
		m.flows && within(use, now, stopped) && now.Sub(heard) >= lull && pause >= lull
	if m.best.relay != nil {
		switch {
		case unheard:
			m.verify(now)
			m.ping(now)
		case m.verifyDue(now), within(use, now, activeFor) && pause >= activePing:
			m.pingOrVerify(now)
		case !within(use, now, relayIdle) && !within(m.checkedBy, now, lingerFor):
			m.drop(now, "idle")
			return
		}
		// The peer's home may serve again, and be nearer.
		if t := m.bestRelay(now, m.best); t != nil && within(use, now, activeFor) && now.Sub(t.asked) >= otherRelayPing {
			m.check(now, t, false)
		}
		return
	}
	switch {
	case unheard:
		m.verify(now)
		m.ping(now)
	case m.verifyDue(now),
		within(use, now, activeFor) && pause >= activePing,
		within(use, now, idleFor) && pause >= idlePing:
		m.pingOrVerify(now)
	case !within(use, now, idleFor) && !within(m.checkedBy, now, lingerFor) && !within(m.switched, now, lingerFor):
		m.drop(now, "idle")
		return
	}
	if within(use, now, activeFor) {
		for _, t := range m.targets {
			if t.relay == nil && t != m.best && within(t.pong, now, otherFor) && now.Sub(t.asked) >= otherPing {
				m.check(now, t, false)
			}
		}
	}
}

// suspect: the path owes an answer. Another that answered lately takes over;
// otherwise all that ever answered are asked, together with the path, and
// packets go by a relay as well.
func (m *machine) suspect(now time.Time) {
	m.misses = 1
	for _, t := range m.targets {
		if m.direct() && t.relay == nil && t != m.best && within(t.pong, now, recentPong) && t.pong.After(m.heard()) {
			m.adopt(now, t, "the path before it is silent")
			m.ping(now)
			return
		}
	}
	m.doubted, m.since = now, now
	m.repeated = now
	m.check(now, m.best, true)
	for _, t := range m.targets {
		switch {
		case t == m.best:
		case t.relay != nil && m.best.relay != nil:
			if t.relay.usable(now) {
				m.check(now, t, true)
			}
		case t.relay == nil && !t.pong.IsZero():
			m.check(now, t, true)
		}
	}
}

// doubt repeats the question, looks elsewhere after the second miss, and gives
// the path up after the fifth.
func (m *machine) doubt(now time.Time) {
	if m.heard().After(m.repeated) && !m.strict {
		m.asked, m.misses = time.Time{}, 0
		m.trust(now)
		return
	}
	if now.Sub(m.repeated) < m.rto() {
		return
	}
	if m.misses++; m.misses > maxMisses {
		m.giveUp(now)
		return
	}
	m.repeated = now
	m.check(now, m.best, true)
	if m.misses == 2 && m.direct() {
		m.startRound(now)
		m.runQueue(now)
	}
}

// giveUp leaves a path that stayed silent: for a relay, or another relay.
func (m *machine) giveUp(now time.Time) {
	dead := m.best
	if dead.relay != nil {
		dead.relay.dead = now
		m.trust(now)
		m.asked, m.misses = time.Time{}, 0
		// With no other relay this one stays: the peer itself may be away.
		if t := m.bestRelay(now, dead); t != nil && !within(t.relay.dead, now, deadFor) {
			m.adopt(now, t, "the relay before it is silent")
			m.check(now, t, true)
		}
		return
	}
	wants := m.inUse(now)
	m.wanted = latest(m.wanted, m.sent)
	m.lost, m.lostAt, m.lostPing = dead, now, now
	m.drop(now, "silent")
	m.relay(now)
	m.phase, m.nextRound = Searching, time.Time{}
	if wants {
		m.search(now)
		m.runQueue(now)
	}
}

// recover asks the direct path that died whether it is back.
func (m *machine) recover(now time.Time) {
	if m.lost == nil {
		return
	}
	if m.direct() || !within(m.lostAt, now, lostFor) || !m.wants(now) {
		m.lost = nil
		return
	}
	if now.Sub(m.lostPing) >= lostPings {
		m.lostPing = now
		m.check(now, m.lost, true)
	}
}

// next is when tick has something to do; zero: only after an event.
func (m *machine) next(now time.Time) time.Time {
	var at time.Time
	sooner := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	if len(m.queue) > 0 {
		sooner(m.queue[0].at)
	}
	sooner(m.replyUntil)
	sooner(m.offerAt)
	if m.best != nil {
		// Activity is looked at on a common grid, so that many peers wake us once.
		grid := pollIdle
		if within(m.lastUse(), now, activeFor) {
			grid = pollActive
		}
		sooner(now.Truncate(grid).Add(grid))
		if m.best.size != nil {
			sooner(m.best.size.next(m.rto()))
		}
		switch {
		case !m.doubted.IsZero():
			sooner(m.repeated.Add(m.rto()))
			if within(m.doubted, now, bothFor) {
				sooner(m.doubted.Add(bothFor + time.Millisecond))
			}
		case !m.asked.IsZero():
			sooner(m.asked.Add(m.rto()))
		}
	}
	if m.lost != nil {
		sooner(m.lostPing.Add(lostPings))
	}
	if m.phase == Start || m.phase == Punch {
		sooner(m.roundEnds)
	}
	if m.phase != Idle && m.wants(now) {
		sooner(m.roundAt())
		sooner(m.wanted.Add(wantedFor + time.Millisecond))
	}
	if !at.IsZero() && at.Before(now.Add(time.Millisecond)) {
		at = now.Add(time.Millisecond) // never spin
	}
	return at
}
