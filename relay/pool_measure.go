package relay

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"nexd/internal/logkey"
)

// When relays are measured.
const (
	probeEvery   = 5 * time.Minute  // give or take a tenth
	probeSoon    = 30 * time.Second // while another home is likely, likewise
	probeApart   = 2 * time.Second  // at least, however often the pool is woken
	probeResolve = 3 * time.Second  // for the names of a relay
	measureFor   = 12 * time.Second // a session that is only to measure
)

// measure is how far a relay was found to be.
type measure struct {
	rtt  time.Duration
	tls  bool           // no other way was found
	addr netip.AddrPort // by UDP
}

// measureOf is how far a relay is by its session; zero: not known.
func measureOf(st Status) measure {
	return measure{rtt: st.RTT, tls: st.Transport == TLS, addr: st.Addr}
}

// distance is what relays are compared by; 0: not known.
func (m measure) distance() time.Duration {
	if m.tls && m.rtt > 0 {
		return m.rtt + tlsFarther
	}
	return m.rtt
}

// round is the measurement of all relays: by questions over UDP, and then,
// of those that did not answer, through sessions.
type round struct {
	probes   []*probe
	under    bool // way
	asked    bool // the questions are over
	began    time.Time
	next     time.Time // the next one
	again    bool      // at once: the network may be another
	first    uint16    // the relay that answered first of all
	resolved chan resolvedProbe
}

type resolvedProbe struct {
	probe *probe
	addrs []netip.AddrPort
}

// measure begins a round of questions when one is due, and ends it.
func (r *poolRunner) measure(ctx context.Context, now time.Time, list []*member) (next time.Time) {
	o := &r.round
	if o.again {
		o.next = o.began.Add(probeApart) // not before, however often it is asked for
	}
	switch {
	case len(list) < 2: // there is no choice
		*o = round{resolved: o.resolved}
		return now.Add(time.Hour)
	case (!o.under || o.again) && !now.Before(o.next):
		r.beginRound(ctx, now, list)
	case !o.under:
		return o.next
	}
	end := o.began.Add(measureFor)
	next = end
	if o.again {
		next = earlier(next, o.next)
	}
	over := true
	for _, b := range o.probes {
		out, at := b.tick(now)
		r.send(out)
		over = over && b.done
		if !b.done {
			next = earlier(next, at)
		}
	}
	if over && !o.asked {
		o.asked = true
		r.takeProbes(now, list)
	}
	if o.asked && (!now.Before(end) || !r.measuring(list)) {
		r.endRound(now, list)
		return o.next
	}
	return next
}

// beginRound asks the first relays of the list.
func (r *poolRunner) beginRound(ctx context.Context, now time.Time, list []*member) {
	o := &r.round
	o.under, o.asked, o.again, o.began, o.probes = true, false, false, now, nil
	for _, m := range list[:min(len(list), maxProbed)] {
		info := m.info.Load()
		if info == nil || r.p.cfg.WriteUDP == nil {
			continue
		}
		b := newProbe(m, now)
		o.probes = append(o.probes, b)
		m.nonce.Store(b.base)
		if addrs, ok := literal(info.UDP); ok {
			r.p.heardAt(m, &m.probed, addrs)
			r.send(b.start(now, addrs))
			continue
		}
		resolved := o.resolved
		r.running.Go(func() {
			ctx, cancel := context.WithTimeout(ctx, probeResolve)
			defer cancel()
			addrs := lookUp(ctx, info.UDP)
			r.p.heardAt(m, &m.probed, addrs)
			select {
			case resolved <- resolvedProbe{b, addrs}:
			default: // the probe gives up by itself
			}
		})
	}
}

// literal returns addresses that need no looking up.
func literal(names []string) (out []netip.AddrPort, ok bool) {
	for _, n := range names {
		a, err := netip.ParseAddrPort(n)
		if err != nil {
			return nil, false
		}
		out = append(out, netip.AddrPortFrom(a.Addr().Unmap(), a.Port()))
	}
	return out, true
}

// heardAt notes where a relay answers from.
func (p *Pool) heardAt(m *member, which *[]netip.AddrPort, addrs []netip.AddrPort) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !slices.Equal(*which, addrs) {
		*which = slices.Clone(addrs)
		p.indexAddrs()
	}
}

func (r *poolRunner) send(questions []question) {
	for _, q := range questions {
		r.p.count.probes.Add(1)
		if err := r.p.cfg.WriteUDP([][]byte{q.frame}, q.to); err != nil {
			r.p.log.Debug("relay measurement", logkey.Addr, q.to, logkey.Err, err)
		}
	}
}

func (r *poolRunner) answered(a probeAnswer) {
	for _, b := range r.round.probes {
		if b.m != a.m {
			continue
		}
		r.p.count.answered.Add(1)
		r.send(b.answered(a))
		if r.round.first == 0 {
			r.round.first = a.m.number
		}
	}
}

// takeProbes ends the questions by UDP.
func (r *poolRunner) takeProbes(now time.Time, list []*member) {
	for _, b := range r.round.probes {
		b.m.nonce.Store(0)
		if b.answers > 0 {
			r.learn(b.m, &measure{rtt: b.best, addr: b.from})
		} else {
			r.learn(b.m, nil)
		}
	}
	if !r.choice.settled && len(r.measures) > 0 {
		// The rest may take long, and there is a choice already.
		r.choice.measured(now, r.standings(now, list))
	}
}

// learn notes how far a relay is; nil: that it is not known.
func (r *poolRunner) learn(m *member, known *measure) {
	m.known.Store(known)
	if known == nil {
		delete(r.measures, m)
		return
	}
	r.measures[m] = *known
}

// measuring reports whether a relay is still to be measured through a session.
func (r *poolRunner) measuring(list []*member) bool {
	return r.round.asked && slices.ContainsFunc(list[:min(len(list), maxProbed)], r.unmeasured)
}

// unmeasured reports whether a relay did not answer and has no session that says more.
func (r *poolRunner) unmeasured(m *member) bool {
	if r.measures[m].rtt > 0 {
		return false
	}
	s := r.sessions[m]
	return s == nil || s.client.Status().RTT == 0
}

// endRound hands what was measured to the choice.
func (r *poolRunner) endRound(now time.Time, list []*member) {
	for _, m := range list {
		if s := r.sessions[m]; s != nil && r.measures[m].rtt == 0 {
			if known := measureOf(s.client.Status()); known.rtt > 0 {
				r.learn(m, &known)
			}
		}
	}
	o := &r.round
	o.under, o.asked, o.probes = false, false, nil
	r.choice.measured(now, r.standings(now, list))
	pause := probeEvery
	if r.choice.uneasy() {
		pause = probeSoon
	}
	pause += time.Duration((rand.Float64() - 0.5) * 0.2 * float64(pause))
	o.next = now.Add(pause)
	r.p.changed.Store(true)
}
