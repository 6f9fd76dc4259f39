package discovery

import (
	"net/netip"
	"time"
)

// machine is one peer. It does no I/O and knows no time but what it is told:
// events go in by methods, actions come out in out, in order.
//
//	       want, offer                     nothing answers
//	IDLE ───────────────► START ──► PUNCH ────────────────► SEARCHING
//	 ▲ ▲       offer sent; its    checks to all candidates      │ │
//	 │ │       answer, a failure  in a burst; an answer         │ │ next round
//	 │ │       or 1 s             proves a path                 │ └──► START
//	 │ └──────────────────────────── 2 min without want ────────┘
//	 │                                 │
//	 │ 10 min without data             ▼       no answer for max(250 ms, 3 rtt)
//	 └────────────────────────────── DIRECT ──────────────────────────► SUSPECT
//	                                   ▲  any answer, on any path         │ │
//	                                   └──────────────────────────────────┘ │
//	                                     SEARCHING (first round at once) ◄──┘ 5 misses
//
// A verified check from an address is answered by the agent and checked back
// here ("triggered check") in every state, so the address an unlike NAT chose
// for this pair is found without being announced.
//
// Rounds: an offer, then a burst to all candidates at 0, .05, .1, .2, .4, .8,
// 1.6, 3.2 s, 20 ms apart, begun by both sides together. The first rounds follow
// at 2, 5 and 10 s, since there is no relay yet that carries data meanwhile;
// from then on more than 35 s of silence lie between them: a Linux NAT that took
// an early check for a flow of its own forgets it only in silence.
//
// While a path is good it is checked each 2 s as data flows, at once when
// something was sent and nothing heard for 0.5 s, each 25 s when idle, and not at
// all after 10 idle minutes.
type machine struct {
	state   State
	since   time.Time // of state and best
	targets []*target // at most maxCandidates
	best    *target   // nil: no path
	out     []action

	wanted    time.Time // last Want, offer or data sent
	sent      time.Time // last data sent to the peer
	received  time.Time // last data received over the path
	checkedBy time.Time // last verified check of the peer

	// The round.
	rounds     int       // since the search began
	nextRound  time.Time // zero: none planned
	roundEnds  time.Time
	queue      []probe // by time
	offered    time.Time
	offerRTT   time.Duration // of the signalling, as last measured; 0: not yet
	offerAt    time.Time     // an offer is due then, too soon after the last; zero: none
	replyUntil time.Time     // an answer to our offer is awaited until then; zero: none

	// Health of best.
	asked    time.Time // the oldest check of best not answered; zero: none
	repeated time.Time // the last repetition while suspect
	misses   int
	settled  time.Time // until then a better path is taken at once
	switched time.Time
}

// action is something the agent shall do.
type action struct {
	do   what
	addr netip.AddrPort // check, path
	// now: the check is not held back by the budget of bursts.
	now bool
	// reply and delay: of an offer.
	reply  bool
	delay  time.Duration
	reason string // path: for the log
}

type what uint8

const (
	_       what = iota
	doCheck      // send a check to addr
	doOffer      // send our candidates
	doPath       // packets go to addr from now on; invalid: nowhere
	doSTUN       // look at our own mapped addresses, if that was long ago
)

// probe is a check of a burst.
type probe struct {
	at   time.Time
	addr netip.AddrPort
	pass int
}

// The numbers of the machine.
const (
	replyWait    = time.Second             // for the answer to an offer
	startDelay   = 50 * time.Millisecond   // least time the answerer gives the asker
	probeSpacing = 20 * time.Millisecond   // between checks of one burst
	roundLength  = 4500 * time.Millisecond // burst and answers
	offerSpacing = 500 * time.Millisecond  // least time between offers to a peer
	wantedFor    = 2 * time.Minute         // a search goes on this long after the last want
	quiet        = 35 * time.Second        // UDP timeout of a Linux NAT (30 s), and some

	activeFor    = 10 * time.Second // after data, the path counts as in use
	activePing   = 2 * time.Second
	idlePing     = 25 * time.Second
	idleFor      = 10 * time.Minute
	lingerFor    = 35 * time.Second // a path that only the peer uses
	otherPing    = 30 * time.Second // other proved paths of a peer in use
	otherFor     = 5 * time.Minute  // without an answer another path is no longer asked
	silence      = 500 * time.Millisecond
	minRTO       = 250 * time.Millisecond
	maxMisses    = 5
	trustData    = 10 * time.Second // data counts as life this long after an answer
	recentPong   = 5 * time.Second  // another path answered this lately: taken when best is suspect
	triggerAgain = time.Second      // no triggered check if the address answered this lately

	settleFor    = 1500 * time.Millisecond
	settleMargin = time.Millisecond
	switchMargin = 3 * time.Millisecond
	switchWins   = 3
	switchPause  = 10 * time.Second

	pollEvery = 250 * time.Millisecond // grid on which activity is looked at
)

var (
	burst     = [...]time.Duration{0, 50e6, 100e6, 200e6, 400e6, 800e6, 1600e6, 3200e6}
	roundGaps = [...]time.Duration{2e9, 3e9, 5e9, 40e9, 80e9, 160e9, 300e9} // from one round to the next
)

func newMachine(now time.Time, hints []netip.AddrPort, near func(netip.Addr) bool) *machine {
	m := &machine{state: Idle, since: now}
	for _, a := range hints {
		m.learn(candidate{Addr: a, Kind: old, Priority: old.priority(0)}, near(a.Addr()))
	}
	return m
}

// take returns the actions since the last call.
func (m *machine) take() []action {
	out := m.out
	m.out = nil
	return out
}

func (m *machine) do(a action) { m.out = append(m.out, a) }

func (m *machine) become(s State, now time.Time) {
	if m.state != s {
		m.state, m.since = s, now
	}
}

// wants reports whether somebody here still wants to talk.
func (m *machine) wants(now time.Time) bool { return within(m.wanted, now, wantedFor) }

// within reports whether t was, and at most d ago.
func within(t, now time.Time, d time.Duration) bool { return !t.IsZero() && now.Sub(t) <= d }

// find returns the target of addr, or nil.
func (m *machine) find(addr netip.AddrPort) *target {
	for _, t := range m.targets {
		if t.Addr == addr {
			return t
		}
	}
	return nil
}

// learn adds a candidate or raises what is known of it. When there is no room,
// the least useful one that is not the path gives way, if it is less useful.
func (m *machine) learn(c candidate, near bool) *target {
	if t := m.find(c.Addr); t != nil {
		if c.Priority > t.Priority {
			t.candidate = c
		}
		t.near = near
		return t
	}
	t := &target{candidate: c, near: near}
	if len(m.targets) < maxCandidates {
		m.targets = append(m.targets, t)
		return t
	}
	worst := -1
	for i, x := range m.targets {
		if x != m.best && (worst < 0 || m.lessUseful(x, m.targets[worst])) {
			worst = i
		}
	}
	if worst < 0 || !m.lessUseful(m.targets[worst], t) && c.Kind != prflx {
		return nil
	}
	m.targets[worst] = t
	return t
}

// lessUseful: an address that answered is worth more than one that did not.
func (m *machine) lessUseful(a, b *target) bool {
	if a.pong.IsZero() != b.pong.IsZero() {
		return a.pong.IsZero()
	}
	if !a.pong.Equal(b.pong) {
		return a.pong.Before(b.pong)
	}
	return a.Priority < b.Priority
}

// replaceCandidates takes the peer's newest list: what it no longer names and
// what did not answer lately becomes a mere hint.
func (m *machine) replaceCandidates(now time.Time, cands []candidate, near func(netip.Addr) bool) {
	for _, t := range m.targets {
		if t != m.best && !within(t.pong, now, otherFor) {
			t.Kind, t.Priority = old, old.priority(0)
		}
	}
	for _, c := range cands {
		m.learn(c, near(c.Addr.Addr()))
	}
}

// inUse reports whether the peer matters now: it is wanted, or data flowed lately.
func (m *machine) inUse(now time.Time) bool { return within(m.lastUse(), now, wantedFor) }

// lastUse is when data last went either way, or was wanted to.
func (m *machine) lastUse() time.Time {
	last := m.wanted
	for _, t := range []time.Time{m.sent, m.received} {
		if t.After(last) {
			last = t
		}
	}
	return last
}
