package discovery

import (
	"net/netip"
	"time"

	"nexd/internal/stunwire"
)

// gauge measures whether a NAT counts: a fresh socket asks two servers, one
// right after the other, and their answers name the two ports the NAT gave out
// last. The WireGuard socket would show ports given out long ago. It does no I/O.
type gauge struct {
	servers [2]netip.AddrPort
	mapped  [2]netip.AddrPort // as they see the socket
	ids     [2]stunwire.TxID
	began   time.Time
	tries   int
	running bool

	// The result.
	ended time.Time
	step  uint16         // 1 to maxStep; 0: it does not count
	last  netip.AddrPort // given out last
}

const (
	maxStep      = 8
	maxPredicted = 16
	gaugeEnd     = 300 * time.Millisecond
	gaugeFresh   = 500 * time.Millisecond
	gaugeAgain   = 100 * time.Millisecond // for a request or answer that was lost
)

// start begins a measurement.
func (g *gauge) start(now time.Time, servers [2]netip.AddrPort) {
	*g = gauge{servers: servers, began: now, running: true, ids: [2]stunwire.TxID{stunwire.NewTxID(), stunwire.NewTxID()}}
}

// tick returns the numbers of the servers to be asked now.
func (g *gauge) tick(now time.Time) (ask []int) {
	switch age := now.Sub(g.began); {
	case !g.running:
	case age >= gaugeEnd:
		g.end(now)
	case g.tries == 0, g.tries == 1 && age >= gaugeAgain:
		g.tries++
		for i, m := range g.mapped {
			if !m.IsValid() {
				ask = append(ask, i)
			}
		}
	}
	return ask
}

// answered takes the answer of a server; false: it was not asked.
func (g *gauge) answered(now time.Time, id stunwire.TxID, from, mapped netip.AddrPort) bool {
	for i := range g.ids {
		if !g.running || g.ids[i] != id || g.servers[i] != from {
			continue
		}
		g.mapped[i] = mapped
		if g.mapped[0].IsValid() && g.mapped[1].IsValid() {
			g.end(now)
		}
		return true
	}
	return false
}

func (g *gauge) end(now time.Time) {
	g.running, g.ended = false, now
	g.step, g.last = stepBetween(g.mapped[0], g.mapped[1]), g.mapped[1]
}

// stepBetween is by how much b's port is above a's, if a NAT may have counted so.
func stepBetween(a, b netip.AddrPort) uint16 {
	if !a.IsValid() || !b.IsValid() || a.Addr() != b.Addr() || b.Port() <= a.Port() || b.Port()-a.Port() > maxStep {
		return 0
	}
	return b.Port() - a.Port()
}

// next is when tick has something to do; zero: only after start.
func (g *gauge) next() time.Time {
	switch {
	case !g.running:
		return time.Time{}
	case g.tries == 0:
		return g.began
	case g.tries == 1:
		return g.began.Add(gaugeAgain)
	}
	return g.began.Add(gaugeEnd)
}

// predicted are the addresses the NAT gives out next, the first one first; none
// if it does not count or was measured too long ago.
func (g *gauge) predicted(now time.Time) (list []netip.AddrPort) {
	if g.running || g.step == 0 || !within(g.ended, now, gaugeFresh) {
		return nil
	}
	for i := range maxPredicted {
		port := int(g.last.Port()) + int(g.step)*(i+1)
		if port >= 1<<16 {
			break
		}
		list = append(list, netip.AddrPortFrom(g.last.Addr(), uint16(port)))
	}
	return list
}

// measure begins to measure our NAT for an offer to p, if that is of use; false:
// it is not, or was done just now.
func (a *Agent) measure(p *peer, now time.Time) bool {
	h := a.hard
	if !h.on() || a.nat.Kind != NATHard || !p.punchHard && !p.machine.answeredBy.IsZero() {
		return false
	}
	if h.gauge.running {
		return true
	}
	servers := a.stun.hosts4()
	if len(servers) < 2 || within(h.gauge.began, now, gaugeFresh) {
		return false
	}
	c, err := h.open()
	if err != nil {
		return false
	}
	h.gaugeHole = &openHole{hole: c, done: make(chan struct{})}
	a.read(h.gaugeHole)
	h.gauge.start(now, [2]netip.AddrPort(servers))
	a.advanceGauge(now)
	return true
}

// advanceGauge asks the servers that are due, and closes the socket at the end.
func (a *Agent) advanceGauge(now time.Time) {
	g := &a.hard.gauge
	for _, i := range g.tick(now) {
		if _, err := a.hard.gaugeHole.WriteToUDPAddrPort(stunwire.AppendRequest(make([]byte, 0, 32), g.ids[i]), g.servers[i]); err != nil {
			a.counters.failed.Add(1)
		}
	}
	if !g.running {
		a.endGauge()
	}
}

// gauged takes a packet that came to the gauge's socket; false: nobody asked for it.
func (a *Agent) gauged(m *stunwire.Message, from netip.AddrPort) bool {
	now := time.Now()
	if m.Class != stunwire.Success || m.HasIntegrity() || !m.Mapped.IsValid() ||
		!a.hard.gauge.answered(now, m.ID, from, unmap(m.Mapped)) {
		return false
	}
	a.advanceGauge(now)
	return true
}

func (a *Agent) endGauge() {
	if a.hard.gaugeHole != nil {
		a.hard.gaugeHole.Close()
		a.hard.gaugeHole = nil
	}
}

// step is by how much our NAT counts up for each new flow, as last seen; 0: it
// does not, or that is not known.
func (a *Agent) natStep() uint16 {
	if !a.hard.gauge.ended.IsZero() {
		return a.hard.gauge.step
	}
	if s := a.stun.hosts4(); len(s) == 2 {
		return stepBetween(a.stun.seen[s[0]], a.stun.seen[s[1]])
	}
	return 0
}
