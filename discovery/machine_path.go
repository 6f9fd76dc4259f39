package discovery

import (
	"net/netip"
	"time"
)

// answered: a check of addr was answered after rtt.
func (m *machine) answered(now time.Time, addr netip.AddrPort, rtt time.Duration) {
	t := m.find(addr)
	if t == nil {
		return // gave way to another meanwhile
	}
	t.answered(now, rtt)
	switch {
	case m.best == nil:
		m.adopt(now, t, "found")
		m.settled = now.Add(settleFor)
	case t == m.best:
		m.asked, m.misses = time.Time{}, 0
		m.become(Direct, now)
	case m.state == Suspect:
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
	m.best = t
	m.asked, m.misses = time.Time{}, 0
	m.switched, m.since = now, now
	m.received = time.Time{} // that was another path
	for _, x := range m.targets {
		x.wins = 0
	}
	m.state = Direct
	m.rounds, m.nextRound = 0, time.Time{}
	// The first passes go on: a better address may be among those that follow.
	kept := m.queue[:0]
	for _, p := range m.queue {
		if p.pass <= 2 && p.addr != t.Addr {
			kept = append(kept, p)
		}
	}
	m.queue = kept
	m.do(action{do: doPath, addr: t.Addr, reason: reason})
}

// drop leaves the peer without a path.
func (m *machine) drop(now time.Time, s State, reason string) {
	m.best = nil
	m.asked, m.misses = time.Time{}, 0
	m.state, m.since = s, now
	m.do(action{do: doPath, reason: reason})
}

// heard is the last sign of life on the path. Data counts, but its source is
// not proved here: only for a while after an answer that is.
func (m *machine) heard() time.Time {
	if m.received.After(m.best.pong) && m.received.Sub(m.best.pong) <= trustData {
		return m.received
	}
	return m.best.pong
}

// rto is how long an answer may take.
func (m *machine) rto() time.Duration {
	if m.best.n == 0 {
		return minRTO
	}
	return max(minRTO, 3*m.best.rtt())
}

// ping checks the path, unless an answer is awaited already.
func (m *machine) ping(now time.Time) {
	if m.asked.IsZero() {
		m.check(now, m.best, true)
	}
}

// tick lets time pass. sent and received are when data last went to the peer,
// and came from the address of the path.
func (m *machine) tick(now, sent, received time.Time) {
	m.sent, m.received = sent, received
	if m.best != nil && !received.After(m.switched) {
		m.received = time.Time{}
	}
	if m.best == nil && m.sent.After(m.wanted) {
		m.wanted = m.sent
	}
	m.runQueue(now)
	if !m.offerAt.IsZero() && !now.Before(m.offerAt) {
		m.askForOffer(now)
	}
	if !m.replyUntil.IsZero() && !now.Before(m.replyUntil) {
		m.punch(now, now)
		m.runQueue(now)
	}
	switch m.state {
	case Direct:
		m.keep(now)
	case Suspect:
		m.doubt(now)
	case Start, Punch, Searching:
		m.goOn(now)
	case Idle:
	}
}

// goOn makes the next round, or ends the search.
func (m *machine) goOn(now time.Time) {
	switch {
	case m.wants(now) && !m.nextRound.IsZero() && !now.Before(m.nextRound):
		m.startRound(now)
		m.runQueue(now)
	case m.state != Searching && now.Before(m.roundEnds):
	case m.wants(now):
		m.become(Searching, now)
		if m.nextRound.IsZero() {
			// The round was the peer's; ours follows in silence.
			m.nextRound = now.Add(quiet)
		}
	default:
		m.become(Idle, now)
		m.queue, m.offerAt, m.nextRound, m.rounds = nil, time.Time{}, time.Time{}, 0
	}
}

// keep looks after a good path.
func (m *machine) keep(now time.Time) {
	use, heard := m.lastUse(), m.heard()
	if !m.asked.IsZero() && heard.After(m.asked) {
		m.asked, m.misses = time.Time{}, 0 // data is life too
	}
	if !m.asked.IsZero() {
		if now.Sub(m.asked) >= m.rto() {
			m.suspect(now)
		}
		return
	}
	pause := now.Sub(latest(m.best.asked, m.best.pong))
	switch {
	case m.sent.After(heard) && now.Sub(heard) >= silence && pause >= silence,
		within(use, now, activeFor) && pause >= activePing,
		within(use, now, idleFor) && pause >= idlePing:
		m.ping(now)
	case !within(use, now, idleFor) && !within(m.checkedBy, now, lingerFor) && !within(m.switched, now, lingerFor):
		m.drop(now, Idle, "idle")
		return
	}
	if within(use, now, activeFor) {
		for _, t := range m.targets {
			if t != m.best && within(t.pong, now, otherFor) && now.Sub(t.asked) >= otherPing {
				m.check(now, t, false)
			}
		}
	}
}

// suspect: the path owes an answer. Another that answered lately takes over;
// otherwise all that ever answered are asked, together with the path.
func (m *machine) suspect(now time.Time) {
	m.misses = 1
	for _, t := range m.targets {
		if t != m.best && within(t.pong, now, recentPong) && t.pong.After(m.heard()) {
			m.adopt(now, t, "the path before it is silent")
			m.ping(now)
			return
		}
	}
	m.become(Suspect, now)
	m.repeated = now
	m.check(now, m.best, true)
	for _, t := range m.targets {
		if t != m.best && !t.pong.IsZero() {
			m.check(now, t, true)
		}
	}
}

// doubt repeats the question, looks elsewhere after the second miss, and gives
// the path up after the fifth.
func (m *machine) doubt(now time.Time) {
	if m.heard().After(m.repeated) {
		m.asked, m.misses = time.Time{}, 0
		m.become(Direct, now)
		return
	}
	if now.Sub(m.repeated) < m.rto() {
		return
	}
	if m.misses++; m.misses > maxMisses {
		wants := m.inUse(now)
		m.wanted = latest(m.wanted, m.sent)
		m.drop(now, Searching, "silent")
		if m.nextRound = (time.Time{}); wants {
			m.search(now)
			m.runQueue(now)
		}
		return
	}
	m.repeated = now
	m.check(now, m.best, true)
	if m.misses == 2 {
		m.startRound(now)
		m.runQueue(now)
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
	switch m.state {
	case Direct, Suspect:
		// Activity is looked at on a common grid, so that many peers wake us once.
		sooner(now.Truncate(pollEvery).Add(pollEvery))
		if !m.asked.IsZero() {
			sooner(m.asked.Add(m.rto()))
		}
		if m.state == Suspect {
			sooner(m.repeated.Add(m.rto()))
		}
	case Start, Punch:
		sooner(m.roundEnds)
		if m.wants(now) {
			sooner(m.nextRound)
		}
	case Searching:
		if m.wants(now) {
			sooner(m.nextRound)
		}
		sooner(m.wanted.Add(wantedFor + time.Millisecond))
	case Idle:
	}
	if !at.IsZero() && at.Before(now.Add(time.Millisecond)) {
		at = now.Add(time.Millisecond) // never spin
	}
	return at
}
