package discovery

import (
	"net/netip"
	"sync"
	"time"

	"nexd/internal/logkey"
)

// prober guesses the ports of hard NATs, whose mappings depend on the
// destination. It works only where both sides allow it (offers say so), in two ways:
//
// A NAT that counts (gauge.go): the ports it gave to a fresh socket towards two
// servers lie 1 to 8 apart, so the next ones are known. They are offered as
// predicted candidates, and all else is an ordinary round.
//
// Random ports (birthday.go): one side's NAT is hard, the other's is not. After
// an ordinary round that failed the hard side proposes a round of guesses
// (an offer with flagHardRound) and the easy side agrees (the answer has it, too):
//
//	hard side                                        easy side
//	proposal ──────────────────────────────────────►
//	         ◄────────────────────────────── answer, begins in hardDelay
//	up to 256 sockets, one check each ──► ✕ filter
//	                                     ◄── checks to random ports
//	on a socket a check came to:
//	a check back, and the answer ──────────────────► the path is proved
//	the path is proved ◄──────────────────── answer
//	bind gets the socket, the others are closed
//
// With 256 of 64512 ports open, 174 guesses hit one with a probability of one
// half, 1024 with 98 %.
//
// The budget, on each side and whatever a peer asks for: one round at a time in
// a node and one in ten minutes with each peer, only while the peer is wanted
// and not reached straight; at most 256 sockets (and as many goroutines that
// read them) for at most 12 s, which send at most 2 first checks and, those that
// are heard on, at most 8 of them, 5 checks back each; at most 1024 guesses, 100
// a second. A measurement of a NAT that counts is one socket and at most 4
// packets for 300 ms, one in 500 ms.
type prober struct {
	// The hooks of Config, which tests replace. nil open: the option is off.
	open    func() (hole, error)
	adopt   func(h hole, remote netip.AddrPort) error
	release func(remote netip.AddrPort)

	gauge     gauge
	gaugeHole *openHole // nil: nothing is being measured

	proposed   *peer // the answer to our proposal is awaited; nil: none is
	proposedAt time.Time
	insisted   bool // it was made a second time

	// The round; peer nil: there is none.
	peer    *peer
	began   time.Time
	holes   *holeSet // what opener uses; nil: not opened yet
	opener  *opener  // on the hard side
	guesser *guesser // on the easy side

	opened chan *holeSet
	tasks  sync.WaitGroup // opening and reading sockets
	stop   chan struct{}  // closed when Run ends
}

// The budget.
const (
	hardPause  = 10 * time.Minute // between rounds with a peer
	hardDelay  = 500 * time.Millisecond
	maxHoles   = 256 // sockets of a round
	leastHoles = 32  // fewer are not worth it
	holesFor   = 12 * time.Second
	maxGuesses = 1024
	guessPace  = 10 * time.Millisecond
	holePace   = 2 * time.Millisecond // between the first checks of sockets
	maxOutside = 2                    // addresses of the peer each socket checks
	maxHeard   = 8                    // sockets that check back
)

func newProber(c Config) *prober {
	p := &prober{opened: make(chan *holeSet), stop: make(chan struct{})}
	if !c.PunchHard {
		return p
	}
	if c.OpenSocket == nil || c.Adopt == nil || c.Release == nil {
		panic("discovery: Config.PunchHard without OpenSocket, Adopt and Release")
	}
	p.open = opens(c.OpenSocket)
	p.adopt = adopts(c.Adopt)
	p.release = c.Release
	return p
}

func (h *prober) on() bool { return h.open != nil }

// mayGuess reports whether the budget allows a round with p now, and there is need.
func (a *Agent) mayGuess(p *peer, now time.Time) bool {
	return a.hard.on() && p.punchHard && a.hard.peer == nil && !within(p.hardAt, now, hardPause) &&
		p.machine.wants(now) && !p.machine.direct()
}

// propose asks p for a round of guesses, if ours is the hard side. The ordinary
// round just failed.
func (a *Agent) propose(p *peer, now time.Time) {
	if a.nat.Kind != NATHard || !easy(p.nat) || !a.mayGuess(p, now) || a.hard.proposed != nil {
		return
	}
	a.hard.proposed, a.hard.proposedAt, a.hard.insisted = p, now, false
	a.sendOffer(p, outgoing{guesses: true})
}

// insist makes a proposal that was not answered once more: packets get lost.
func (a *Agent) insist(now time.Time) {
	h := a.hard
	if h.proposed == nil || within(h.proposedAt, now, replyWait) {
		return
	}
	if h.insisted || !a.mayGuess(h.proposed, now) {
		h.proposed = nil
		return
	}
	h.proposedAt, h.insisted = now, true
	a.sendOffer(h.proposed, outgoing{guesses: true})
}

// handleHard takes an offer about a round of guesses.
func (a *Agent) handleHard(p *peer, o *offer, now time.Time) {
	switch {
	case o.WantReply && a.hard.peer == p && a.hard.guesser != nil: // our answer was lost
		a.sendOffer(p, outgoing{reply: true, guesses: true, delay: max(a.hard.began.Add(hardDelay).Sub(now), 0)})
	case o.WantReply:
		ip, ok := hardAddr(o.Candidates)
		if !ok || a.net.near(ip) || o.NAT != natCode(NATHard) || !easy(natCode(a.nat.Kind)) || !a.mayGuess(p, now) {
			return // no answer, no round
		}
		a.sendOffer(p, outgoing{reply: true, guesses: true, delay: hardDelay})
		a.beginRound(p, now, "guessing ports of the peer's NAT")
		a.hard.guesser = newGuesser(ip, now.Add(hardDelay))
	case a.hard.proposed == p && within(a.hard.proposedAt, now, replyWait):
		a.hard.proposed = nil
		to := outside(o.Candidates)
		if len(to) == 0 || a.nat.Kind != NATHard || !a.mayGuess(p, now) {
			return
		}
		a.beginRound(p, now, "opening sockets for the peer to guess")
		a.hard.opener = newOpener(to, now)
		a.openHoles(a.hard.opener)
	}
}

func (a *Agent) beginRound(p *peer, now time.Time, what string) {
	a.hard.peer, a.hard.began, p.hardAt = p, now, now
	a.counters.hardRounds.Add(1)
	a.log.Info(what, logkey.Peer, p.key.Short())
	p.story.add(now, what)
}

// endRound closes what the round has open.
func (a *Agent) endRound() {
	if a.hard.holes != nil {
		a.hard.holes.close()
	}
	a.hard.peer, a.hard.holes, a.hard.opener, a.hard.guesser = nil, nil, nil, nil
}

// advanceHard does what is due of the measurement and of the round.
func (a *Agent) advanceHard(now time.Time) {
	a.advanceGauge(now)
	a.insist(now)
	p := a.hard.peer
	if p == nil {
		return
	}
	if now.Sub(a.hard.began) >= holesFor || p.machine.direct() || !p.machine.wants(now) {
		if !p.machine.direct() {
			p.story.add(now, "no port was found")
		}
		a.endRound()
		return
	}
	if g := a.hard.guesser; g != nil {
		if to, due := g.tick(now); due {
			id, b := a.newCheck(p)
			g.asked[id] = ask{p, to, now, 0}
			a.write(p, b, to)
		}
	}
	if a.hard.holes != nil {
		a.sendHoles(now)
	}
}

// nextHard is when advanceHard has something to do; zero: only after an event.
func (a *Agent) nextHard() time.Time {
	next := a.hard.gauge.next()
	sooner := func(t time.Time) {
		if !t.IsZero() && (next.IsZero() || t.Before(next)) {
			next = t
		}
	}
	if a.hard.proposed != nil {
		sooner(a.hard.proposedAt.Add(replyWait + time.Millisecond))
	}
	if a.hard.peer != nil {
		sooner(a.hard.began.Add(holesFor))
	}
	if a.hard.guesser != nil {
		sooner(a.hard.guesser.next())
	}
	if a.hard.holes != nil {
		sooner(a.hard.opener.next())
	}
	return next
}

// easy reports whether a kind of NAT has one mapping for all destinations, so
// that the other side knows where to send.
func easy(code uint8) bool { return code == natCode(NATOpen) || code == natCode(NATEasy) }

// hardAddr is the address whose ports are guessed: where servers see the peer.
func hardAddr(list []candidate) (netip.Addr, bool) {
	for _, c := range list {
		if ip := c.Addr.Addr(); c.Kind == reflexive && ip.Is4() && !ip.IsPrivate() && !ip.IsLoopback() {
			return ip, true
		}
	}
	return netip.Addr{}, false
}

// outside are the addresses an easy peer's checks come from: as servers see
// them, or, without a NAT, its own.
func outside(list []candidate) (to []netip.AddrPort) {
	for _, k := range []kind{reflexive, host} {
		for _, c := range list {
			ip := c.Addr.Addr()
			if c.Kind == k && ip.Is4() && !ip.IsPrivate() && !ip.IsLoopback() && len(to) < maxOutside {
				to = append(to, c.Addr)
			}
		}
		if len(to) > 0 {
			return to
		}
	}
	return nil
}
