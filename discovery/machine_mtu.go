package discovery

import (
	"net/netip"
	"time"
)

const (
	largeFor = 3 * time.Second // after a large packet a path counts as carrying such this long
	// A stream of large packets that stops may have met a black hole: TCP waits
	// longer each time it sends one again.
	pouring    = 3                      // looks in a row that found it flowing
	stuckFor   = 150 * time.Millisecond // that it stands still then
	stuckAgain = 250 * time.Millisecond // no sooner after another padded check
)

// sawLarge notes when a large packet was last sent.
func (m *machine) sawLarge(last time.Time) {
	if last.After(m.large) {
		if m.pours++; last.Sub(m.large) > stuckFor {
			m.stopped(last)
		} else if m.pours >= pouring {
			m.stuck = false
		}
	}
	m.large = last
}

// stopped notes that a stream of large packets, if there was one, has stopped at
// now at the latest.
func (m *machine) stopped(now time.Time) {
	if m.pours >= pouring && now.Sub(m.large) >= stuckFor {
		m.stuck = true
	}
	if now.Sub(m.large) >= stuckFor {
		m.pours = 0
	}
}

// size looks after the size of the packets to the peer. It is looked for on the
// path in use, while that is in use and not in doubt; while large packets flow it
// is verified in place of the usual checks.
func (m *machine) size(now time.Time) {
	defer m.tellMTU(now)
	if m.best != m.sized {
		m.sized = m.best
		if m.best != nil {
			m.sizeAnew(now)
		}
	}
	if m.best == nil || m.best.size == nil {
		return
	}
	if !m.doubted.IsZero() {
		m.best.size.cancel()
		return
	}
	m.advanceSize(now)
}

// sizeAnew begins with the path that was adopted.
func (m *machine) sizeAnew(now time.Time) {
	if m.maxMTU <= baseMTU {
		return
	}
	if m.best.size == nil {
		top := m.maxMTU
		if m.best.relay != nil {
			top = min(top, maxRelayMTU)
		}
		m.best.size = newSizer(top)
	}
	m.best.size.begin(now, m.lastMTU[m.sizeKind()])
}

// forgetSizes: this host's network is another, and with it the start of each path.
func (m *machine) forgetSizes(now time.Time) {
	m.lastMTU = [3]int{}
	for _, t := range m.targets {
		if t.size != nil {
			t.size.forget(now)
		}
	}
}

// sizeKind is the kind of the path, as far as its size goes.
func (m *machine) sizeKind() int {
	switch {
	case m.best.relay != nil:
		return 0
	case m.best.Addr.Addr().Is4():
		return 1
	}
	return 2
}

func (m *machine) advanceSize(now time.Time) {
	s := m.best.size
	m.askStuck(now)
	sizes, small := s.due(now, m.rto())
	if within(m.lastUse(), now, activeFor) {
		sizes = append(sizes, s.step(now)...)
	}
	for _, size := range sizes {
		m.do(action{do: doPadded, addr: m.best.Addr, mtu: size})
	}
	if small {
		m.check(now, m.best, true) // after them: it may overtake them
	}
}

// verify asks whether the size in use still passes, if large packets were sent
// lately; false: there is nothing to ask.
func (m *machine) verify(now time.Time) bool {
	if m.best.size == nil || !within(m.large, now, largeFor) {
		return false
	}
	size, ok := m.best.size.verify(now)
	if ok {
		m.do(action{do: doPadded, addr: m.best.Addr, mtu: size})
	}
	return ok
}

// askStuck asks that when a stream of large packets has just stopped, as far as the
// budget for it goes: mostly it has come to its end.
func (m *machine) askStuck(now time.Time) {
	m.stopped(now)
	if !m.stuck || now.Sub(m.best.size.sent) < stuckAgain {
		return
	}
	m.stuck = false
	if size, ok := m.best.size.verify(now); ok {
		m.do(action{do: doPadded, addr: m.best.Addr, mtu: size, spare: true})
		m.ping(now) // to overtake it
	}
}

// sizeDropped: a padded check that could be spared was not sent.
func (m *machine) sizeDropped(addr netip.AddrPort, mtu int) {
	if m.best != nil && m.best.size != nil && m.best.Addr == addr {
		m.best.size.drop(mtu)
	}
}

// verifyDue: large packets flow, and the size was not proved lately.
func (m *machine) verifyDue(now time.Time) bool {
	s := m.best.size
	return s != nil && s.mtu > baseMTU && within(m.large, now, largeFor) && now.Sub(latest(s.proved, s.sent)) >= activePing
}

// checkAnswered: the check sent to addr at that time was answered; mtu 0: it was
// not padded.
func (m *machine) checkAnswered(now time.Time, addr netip.AddrPort, sent time.Time, mtu int) {
	t := m.find(addr)
	if t == nil || t.size == nil || t != m.best {
		return
	}
	t.size.answered(now, sent, mtu)
	if mtu == 0 {
		return
	}
	// It is an answer of the path like any other, but says nothing of its delay.
	m.lastMTU[m.sizeKind()] = t.size.mtu
	t.pong = now
	if t.relay != nil {
		t.relay.dead, t.relay.absent, t.relay.heard = time.Time{}, time.Time{}, now
	}
	m.asked, m.misses, m.strict = time.Time{}, 0, false
	m.trust(now)
}

// sizeRefused: this host knows that a size does not pass.
func (m *machine) sizeRefused(now time.Time, addr netip.AddrPort, mtu int) {
	if m.best == nil || m.best.size == nil || m.best.Addr != addr {
		return
	}
	m.best.size.fail(now, mtu, true)
	m.advanceSize(now)
	m.tellMTU(now)
}

// sizeHeld: a padded check was not sent, for the budget.
func (m *machine) sizeHeld(now time.Time, addr netip.AddrPort, mtu int) {
	if m.best != nil && m.best.size != nil && m.best.Addr == addr {
		m.best.size.held(now, mtu)
	}
}

// sizeUnknown: this system cannot send what is not fragmented.
func (m *machine) sizeUnknown() {
	m.maxMTU = 0
	for _, t := range m.targets {
		t.size = nil
	}
}

// mtu is the largest packet for the peer now. One that takes both ways must pass
// either.
func (m *machine) mtu(now time.Time) int {
	if m.best == nil || m.best.size == nil || m.both(now) {
		return baseMTU
	}
	return m.best.size.mtu
}

// tellMTU queues an action when it is another than last told.
func (m *machine) tellMTU(now time.Time) {
	mtu := m.mtu(now)
	if mtu == m.toldMTU || m.maxMTU == 0 && m.toldMTU == 0 {
		return
	}
	reason := noPath
	switch {
	case m.both(now):
		reason = "the path is silent"
	case m.best != nil && m.best.size != nil:
		reason = m.best.size.reason
	}
	m.do(action{do: doMTU, mtu: mtu, reason: reason})
	m.toldMTU = mtu
}
