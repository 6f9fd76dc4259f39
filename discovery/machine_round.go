package discovery

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"nexd/internal/relaypath"
)

// want: traffic to the peer is there.
func (m *machine) want(now time.Time) {
	paused := !within(m.wanted, now, quiet)
	m.wanted = now
	switch {
	case m.direct(), m.phase == Start, m.phase == Punch:
	case m.phase == Idle:
		m.search(now)
	case paused && now.Sub(m.roundEnds) > quiet:
		// New traffic after a pause does not wait for a long gap, if the last
		// burst is long over.
		m.search(now)
	}
}

// search begins the rounds anew.
func (m *machine) search(now time.Time) {
	m.rounds, m.rescues = 0, maxRescues
	if m.searching.IsZero() {
		m.searching = now
	}
	m.startRound(now)
}

// startRound offers and, once the peer has answered or cannot, checks all.
func (m *machine) startRound(now time.Time) {
	gap := roundGaps[min(m.rounds, len(roundGaps)-1)]
	gap += time.Duration((rand.Float64() - 0.5) * 0.2 * float64(gap-quiet)) // ±10 %, never less than quiet
	m.rounds++
	m.roundBegan = now
	m.nextRound = now.Add(gap)
	m.roundEnds = now.Add(roundLength)
	m.queue = nil
	m.do(action{do: doSTUN, now: m.lost != nil || !m.doubted.IsZero()})
	m.askForOffer(now)
	m.become(Start, now)
	// Our own networks have no NAT that could take offence: no waiting.
	m.plan(now, now, func(t *target) bool { return t.near })
}

// roundAt is when the next round begins: early when this one cannot help any
// more and there is need, as long as that was not done too often.
func (m *machine) roundAt() time.Time {
	early := time.Time{}
	switch {
	case m.rescues == 0:
	case m.best == nil || m.lost != nil:
		early = m.roundBegan.Add(rescueGaps[m.rescues-1])
	case m.answeredBy.Before(m.roundBegan) && m.replyUntil.IsZero():
		early = m.roundBegan.Add(lostOffer)
	}
	if !early.IsZero() && (m.nextRound.IsZero() || early.Before(m.nextRound)) {
		return early
	}
	return m.nextRound
}

// goOn makes the next round, or ends the search.
func (m *machine) goOn(now time.Time) {
	if m.phase == Idle {
		return
	}
	at := m.roundAt()
	switch {
	case m.direct() && m.doubted.IsZero():
		m.become(Idle, now)
		m.offerAt, m.nextRound, m.rounds = time.Time{}, time.Time{}, 0
	case m.wants(now) && !at.IsZero() && !now.Before(at):
		if at.Before(m.nextRound) {
			m.rescues--
		}
		m.startRound(now)
		m.runQueue(now)
	case m.phase != Searching && now.Before(m.roundEnds):
	case m.wants(now):
		if m.phase != Searching {
			m.do(action{do: doGuess})
		}
		m.become(Searching, now)
		if m.nextRound.IsZero() {
			// The round was the peer's; ours follows in silence.
			m.nextRound = now.Add(quiet)
		}
	default:
		m.become(Idle, now)
		m.searching = time.Time{}
		m.queue, m.offerAt, m.nextRound, m.rounds = nil, time.Time{}, time.Time{}, 0
	}
}

func (m *machine) askForOffer(now time.Time) {
	m.offerAt = time.Time{}
	if within(m.offered, now, offerSpacing) {
		m.offerAt = m.offered.Add(offerSpacing + time.Millisecond)
		return
	}
	m.offered = now
	m.replyUntil = now.Add(replyWait)
	m.do(action{do: doOffer})
}

// offerSent: the signalling is done with our offer.
func (m *machine) offerSent(now time.Time, delivered bool) {
	if !delivered && !m.replyUntil.IsZero() {
		m.punch(now, now)
	}
}

// gotOffer: the peer's candidates, already filtered.
func (m *machine) gotOffer(now time.Time, o *offer, near func(netip.Addr) bool) {
	m.replaceCandidates(now, o.Candidates, near)
	m.answeredBy = now
	start := now
	if o.WantReply {
		// Both begin together: we later by what the answer takes.
		if !m.direct() {
			m.wanted = latest(m.wanted, now.Add(activeFor-wantedFor)) // a want that lasts activeFor: it is the peer's
		}
		delay := min(max(startDelay, m.offerRTT/2+10*time.Millisecond), replyWait)
		m.do(action{do: doSTUN})
		m.do(action{do: doOffer, reply: true, delay: delay})
		start = now.Add(delay)
	} else if !m.replyUntil.IsZero() {
		m.offerRTT = now.Sub(m.offered)
		start = now.Add(max(o.StartDelay-m.offerRTT/2, 0))
	}
	m.punch(now, start)
	if m.best != nil {
		m.ping(now)
	}
}

// punch plans a burst to everything known.
func (m *machine) punch(now, start time.Time) {
	m.replyUntil = time.Time{}
	m.queue = nil
	m.roundEnds = start.Add(roundLength)
	m.plan(now, start, func(*target) bool { return true })
	if !m.direct() || !m.doubted.IsZero() {
		m.become(Punch, now)
	}
}

// unanswered: nobody answered our offer in time. While a relay carries data it
// is rather made again: checks that begin on one side alone can close a hole.
func (m *machine) unanswered(now time.Time) {
	if m.best != nil && m.best.relay != nil && m.rescues > 0 {
		m.replyUntil = time.Time{}
		m.rescues--
		m.startRound(now)
		return
	}
	m.punch(now, now)
}

// plan queues a burst to the chosen targets: near ones from now on, the others
// from start on and probeSpacing apart.
func (m *machine) plan(now, start time.Time, choose func(*target) bool) {
	order := slices.Clone(m.targets)
	slices.SortStableFunc(order, func(a, b *target) int {
		switch first := a.Kind == predicted; {
		case m.counts && first != (b.Kind == predicted):
			if first {
				return -1
			}
			return 1
		case m.lessUseful(b, a):
			return -1
		case m.lessUseful(a, b):
			return 1
		}
		return 0
	})
	last := start.Add(-probeSpacing)
	for pass, offset := range burst {
		for _, t := range order {
			if !choose(t) || t == m.best || t.relay != nil {
				continue
			}
			if t.near {
				m.queue = append(m.queue, probe{now.Add(offset), t.Addr, pass})
				continue
			}
			last = latest(last.Add(probeSpacing), start.Add(offset))
			m.queue = append(m.queue, probe{last, t.Addr, pass})
		}
	}
	slices.SortStableFunc(m.queue, func(a, b probe) int { return a.at.Compare(b.at) })
}

// runQueue sends the checks that are due.
func (m *machine) runQueue(now time.Time) {
	for len(m.queue) > 0 && !m.queue[0].at.After(now) {
		p := m.queue[0]
		m.queue = m.queue[1:]
		t := m.find(p.addr)
		if t == nil || p.pass > 0 && within(t.pong, now, recentPong) {
			continue
		}
		m.check(now, t, t.near)
	}
}

// checked: a verified check of the peer came from addr.
func (m *machine) checked(now time.Time, addr netip.AddrPort, near bool) {
	m.checkedBy = now
	if n := relaypath.Number(addr); n != 0 {
		m.heardBy(n, now)
		return
	}
	t := m.find(addr)
	if t == nil {
		if t = m.learn(candidate{Addr: addr, Kind: prflx, Priority: prflx.priority(0)}, near); t == nil {
			return
		}
	}
	if within(t.pong, now, triggerAgain) || within(t.asked, now, probeSpacing) {
		return
	}
	if t == m.best && m.doubted.IsZero() && within(t.pong, now, idlePing+replyWait) {
		return // the peer only keeps the path; we know it is good
	}
	if m.direct() && t != m.best {
		m.ping(now) // the peer looks elsewhere: perhaps the path is dead
	}
	if m.phase == Idle && !m.direct() {
		m.become(Punch, now)
		m.roundBegan, m.roundEnds = now, now.Add(roundLength)
		// One lost packet must not cost the triggered check.
		for pass, offset := range burst[1:6] {
			m.queue = append(m.queue, probe{now.Add(offset), addr, pass + 1})
		}
	}
	m.check(now, t, true)
}

// localChanged: our own addresses are others now.
func (m *machine) localChanged(now time.Time) {
	if m.best != nil {
		m.asked = time.Time{} // what was sent from there counts no more
		m.check(now, m.best, true)
	}
	switch {
	case m.direct():
		if m.inUse(now) {
			m.startRound(now)
		}
	case m.wants(now) && m.phase != Idle:
		m.search(now)
	}
}

// check asks for a check of t.
func (m *machine) check(now time.Time, t *target, urgent bool) {
	t.asked = now
	t.checks++
	if t == m.best && m.asked.IsZero() {
		m.asked = now
	}
	m.do(action{do: doCheck, addr: t.Addr, now: urgent})
}
