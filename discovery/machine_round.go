package discovery

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"
)

// want: traffic to the peer is there.
func (m *machine) want(now time.Time) {
	paused := !within(m.wanted, now, quiet)
	m.wanted = now
	switch m.state {
	case Idle:
		m.search(now)
	case Searching:
		// New traffic after a pause does not wait for a long gap, if the last
		// burst is long over.
		if paused && now.Sub(m.roundEnds) > quiet {
			m.search(now)
		}
	case Start, Punch, Direct, Suspect:
	}
}

// search begins the rounds anew.
func (m *machine) search(now time.Time) {
	m.rounds = 0
	m.startRound(now)
}

// startRound offers and, once the peer has answered or cannot, checks all.
func (m *machine) startRound(now time.Time) {
	gap := roundGaps[min(m.rounds, len(roundGaps)-1)]
	if gap > quiet {
		gap += time.Duration((rand.Float64() - 0.5) * 0.2 * float64(gap-quiet)) // ±10 %, never less than quiet
	}
	m.rounds++
	m.nextRound = now.Add(gap)
	m.roundEnds = now.Add(roundLength)
	m.queue = nil
	m.do(action{do: doSTUN})
	m.askForOffer(now)
	if m.best == nil {
		m.become(Start, now)
	}
	// Our own networks have no NAT that could take offence: no waiting.
	m.plan(now, now, func(t *target) bool { return t.near })
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
	start := now
	if o.WantReply {
		// Both begin together: we later by what the answer takes.
		if m.best == nil {
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
	if m.best == nil {
		m.become(Punch, now)
	}
}

// plan queues a burst to the chosen targets: near ones from now on, the others
// from start on and probeSpacing apart.
func (m *machine) plan(now, start time.Time, choose func(*target) bool) {
	order := slices.Clone(m.targets)
	slices.SortStableFunc(order, func(a, b *target) int {
		switch {
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
			if !choose(t) || t == m.best {
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
	t := m.find(addr)
	if t == nil {
		if t = m.learn(candidate{Addr: addr, Kind: prflx, Priority: prflx.priority(0)}, near); t == nil {
			return
		}
	}
	if within(t.pong, now, triggerAgain) || within(t.asked, now, probeSpacing) {
		return
	}
	if t == m.best && m.state == Direct && within(t.pong, now, idlePing+replyWait) {
		return // the peer only keeps the path; we know it is good
	}
	if m.best != nil && t != m.best {
		m.ping(now) // the peer looks elsewhere: perhaps the path is dead
	}
	if m.state == Idle {
		m.become(Punch, now)
		m.roundEnds = now.Add(roundLength)
		// One lost packet must not cost the triggered check.
		for pass, offset := range burst[1:6] {
			m.queue = append(m.queue, probe{now.Add(offset), addr, pass + 1})
		}
	}
	m.check(now, t, true)
}

// localChanged: our own addresses are others now.
func (m *machine) localChanged(now time.Time) {
	switch m.state {
	case Direct, Suspect:
		m.ping(now)
		if m.inUse(now) {
			m.startRound(now)
		}
	case Start, Punch, Searching:
		if m.wants(now) {
			m.search(now)
		}
	case Idle:
	}
}

// check asks for a check of t.
func (m *machine) check(now time.Time, t *target, urgent bool) {
	t.asked = now
	if t == m.best && m.asked.IsZero() {
		m.asked = now
	}
	m.do(action{do: doCheck, addr: t.Addr, now: urgent})
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
