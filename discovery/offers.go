package discovery

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"nexd/key"
)

const (
	signalWorkers = 4
	signalTimeout = 5 * time.Second
)

// signalJob is a sealed offer on its way out.
type signalJob struct {
	to     key.Public
	sealed []byte
	asks   bool // it wants an answer
}

type signalResult struct {
	to  key.Public
	err error
}

// outgoing says what an offer is for.
type outgoing struct {
	reply   bool          // it answers another
	guesses bool          // it is about a round of guesses (see prober)
	delay   time.Duration // until our checks begin
}

// deferredOffer waits for the first answers of the STUN servers, or for the
// gauge of a NAT that may count.
type deferredOffer struct {
	peer     *peer
	offer    outgoing
	until    time.Time
	servers  bool // it waits for the servers
	measured bool // the gauge was asked
}

// ready reports whether there is nothing to wait for.
func (a *Agent) ready(d *deferredOffer, now time.Time) bool {
	if d.servers && !a.stun.done && now.Before(d.until) {
		return false
	}
	if d.servers = false; !d.measured {
		d.measured = true
		if a.measure(d.peer, now) {
			d.until = a.hard.gauge.began.Add(gaugeEnd)
		}
	}
	return !a.hard.gauge.running || !now.Before(d.until)
}

// queueOffer sends an offer now, or, while our addresses outside are unknown
// and just being asked for, a little later.
func (a *Agent) queueOffer(p *peer, now time.Time, o outgoing) {
	d := deferredOffer{peer: p, offer: o, until: a.stun.began.Add(stunHurry), servers: len(a.stun.seen) == 0}
	if a.ready(&d, now) {
		a.sendOffer(p, o)
		return
	}
	a.deferred = append(a.deferred, d)
}

// flushOffers sends the deferred offers once there is nothing to wait for.
func (a *Agent) flushOffers(now time.Time) {
	list := a.deferred
	a.deferred = nil
	for _, d := range list {
		if a.peers[d.peer.key] != d.peer {
			continue
		}
		if !a.ready(&d, now) {
			a.deferred = append(a.deferred, d)
			continue
		}
		a.sendOffer(d.peer, d.offer)
		a.step(d.peer, now, func(m *machine) {
			m.counts = a.natStep() > 0
			if d.offer.reply {
				m.punch(now, now.Add(d.offer.delay)) // the start that the offer now names
			} else {
				m.offered = now
				m.replyUntil = now.Add(replyWait)
			}
		})
	}
}

func (a *Agent) nextDeferred() time.Time {
	var next time.Time
	for _, d := range a.deferred {
		if next.IsZero() || d.until.Before(next) {
			next = d.until
		}
	}
	return next
}

// sendOffer seals our candidates and hands them to a worker. When all are busy,
// the offer counts as failed; the machine comes back with its next round.
func (a *Agent) sendOffer(p *peer, x outgoing) {
	p.offerSeq++
	a.said = a.ownMapped()
	o := offer{
		WantReply: !x.reply, PunchHard: a.hard.on(), HardRound: x.guesses, NAT: natCode(a.nat.Kind), StartDelay: x.delay,
		Epoch: p.epoch, Seq: p.offerSeq, PeerEpoch: max(p.checks.epoch, p.offers.epoch),
		Candidates: a.ownCandidates(), Relays: a.ownRelays,
	}
	job := signalJob{p.key, p.secrets.seal(o.appendTo(nil)), !x.reply && !x.guesses}
	relayed, proved := a.relayOffer(p, job.sealed)
	p.story.add(time.Now(), offerText(x.reply, relayed, len(o.Candidates)))
	if relayed {
		job.asks = false // that it went is known; the service is the second way
		if proved {
			a.counters.signals.Add(1)
			return
		}
	}
	if a.config.Signal != nil {
		select {
		case a.jobs <- job:
			a.counters.signals.Add(1)
			return
		default:
		}
	}
	if job.asks && !relayed {
		// Not on this stack: the machine is in the middle of its actions.
		select {
		case a.results <- signalResult{to: p.key, err: context.Canceled}:
		default: // its own wait ends in a second
		}
	}
}

// signalWorker brings offers to the service until ctx ends.
func (a *Agent) signalWorker(ctx context.Context) {
	for {
		var job signalJob
		select {
		case <-ctx.Done():
			return
		case job = <-a.jobs:
		}
		call, cancel := context.WithTimeout(ctx, signalTimeout)
		err := a.config.Signal(call, job.to, job.sealed)
		cancel()
		if !job.asks {
			continue
		}
		select {
		case <-ctx.Done():
			return
		case a.results <- signalResult{job.to, err}:
		}
	}
}

func (a *Agent) offerDone(r signalResult) {
	now := time.Now()
	p := a.peers[r.to]
	if p == nil || p.session == nil {
		return
	}
	a.step(p, now, func(m *machine) { m.offerSent(now, r.err == nil) })
}

// handleOffer takes an offer a peer sealed for us.
func (a *Agent) handleOffer(s signal) {
	now := time.Now()
	p := a.open(s.from, now)
	if p == nil {
		a.counters.unverified.Add(1)
		return
	}
	plain, err := p.secrets.open(s.sealed)
	if err != nil {
		a.counters.unverified.Add(1)
		return
	}
	o, err := parseOffer(plain)
	if err != nil {
		a.counters.unverified.Add(1)
		return
	}
	switch p.offers.admit(o.Epoch, o.Seq) {
	case replayed:
		a.counters.replayed.Add(1)
		return
	case stale:
		// Our own offer tells the peer that its clock went back.
		a.counters.replayed.Add(1)
		if p.staleRate.take(now) {
			a.sendOffer(p, outgoing{reply: true})
		}
		return
	case fresh:
	}
	if !p.offerRate.take(now) {
		a.counters.limited.Add(1)
		return
	}
	if o.PeerEpoch > p.epoch {
		p.raiseEpoch(o.PeerEpoch)
		if !o.WantReply {
			a.sendOffer(p, outgoing{}) // what the peer refused, once more
		}
	}
	o.Candidates = a.filter(o.Candidates)
	if !a.hard.on() || !o.PunchHard {
		o.Candidates = slices.DeleteFunc(o.Candidates, func(c candidate) bool { return c.Kind == predicted })
	}
	a.activate(p, now)
	a.learnRelays(p, o.Relays)
	p.nat, p.punchHard = o.NAT, o.PunchHard
	p.story.add(now, gotOfferText(o.WantReply, a.relays[s.relay].Name, len(o.Candidates)))
	a.step(p, now, func(m *machine) {
		if s.relay != 0 {
			m.heardBy(s.relay, now)
		}
		m.counts = a.natStep() > 0
		if !o.HardRound {
			m.gotOffer(now, &o, a.net.near)
		}
	})
	if o.HardRound {
		a.handleHard(p, &o, now)
	}
}

// filter drops candidates that must not be probed, and those that are ourselves.
// Loopback counts only when we offer it ourselves: a peer that has nothing else
// then is on this machine, and no other may aim us at what listens there.
func (a *Agent) filter(in []candidate) []candidate {
	loopback := a.net.loopback()
	var out []candidate
	for _, c := range in {
		c.Addr = unmap(c.Addr)
		if !usable(c.Addr, a.config.Exclude) || a.isSelf(c.Addr) || c.Addr.Addr().IsLoopback() && !loopback {
			continue
		}
		if c.Kind < host || c.Kind > predicted {
			c.Kind = old // of a later version
		}
		c.Priority = c.Kind.priority(uint16(c.Priority >> 8)) // nobody ranks above its kind
		if out = append(out, c); len(out) == maxCandidates {
			break
		}
	}
	return out
}

// ownCandidates are what we offer now.
func (a *Agent) ownCandidates() []candidate {
	next := slices.DeleteFunc(a.hard.gauge.predicted(time.Now()), func(x netip.AddrPort) bool { return !usable(x, a.config.Exclude) })
	return a.net.candidates(a.config.Socket.Port(), a.config.Static, a.ports, a.ownMapped(), next)
}

// ownMapped are the mapped addresses that may be offered: a server may lie.
func (a *Agent) ownMapped() []netip.AddrPort {
	var out []netip.AddrPort
	for _, m := range a.stun.mapped() {
		if usable(m, a.config.Exclude) && (!m.Addr().IsLoopback() || a.net.loopback()) {
			out = append(out, m)
		}
	}
	return out
}

func natCode(kind string) uint8 {
	switch kind {
	case NATOpen:
		return 1
	case NATEasy:
		return 2
	case NATHard:
		return 3
	case NATBlocked:
		return 4
	}
	return 0
}
