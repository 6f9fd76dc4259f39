package discovery

import (
	"net/netip"
	"time"

	"nexd/internal/relaypath"
)

// machine is one peer. It does no I/O and knows no time but what it is told:
// events go in by methods, actions come out in out, in order.
//
// Two things go on side by side. The path: where packets go. A relay at once, a
// direct path as soon as one is proved, the relay again when it falls silent:
//
//	          a relay is up             an answer from a direct address
//	none ────────────────────► relay ─────────────────────────────────► direct
//	 ▲                        ▲  │ ▲                                     │   ▲
//	 └── idle, no relay left ─┼──┘ │      no answer for max(200 ms, 3 rtt)   │ an answer
//	                          │    │                                     ▼   │
//	                          │    └──────────── 5 misses ──────────── suspect: packets take
//	                          └ another relay, if this one is silent     both ways meanwhile
//
// And the search for a direct path:
//
//	       want, offer                     nothing answers
//	IDLE ───────────────► START ──► PUNCH ────────────────► SEARCHING
//	 ▲ ▲       offer sent; its    checks to all candidates      │ │
//	 │ │       answer, a failure  in a burst; an answer         │ │ next round
//	 │ │       or 1 s             proves a path                 │ └──► START
//	 │ └──────────────────────────── 2 min without want ────────┘
//	 └──────────────── a direct path is there
//
// A verified check from an address is answered by the agent and checked back
// here ("triggered check") in every state, so the address an unlike NAT chose
// for this pair is found without being announced.
//
// Rounds: an offer, then a burst to all candidates at 0, .05, .1, .2, .4, .8,
// 1.6, 3.2 s, 20 ms apart, begun by both sides together. Later rounds keep more
// than 35 s of silence between them: a Linux NAT that took an early check for a
// flow of its own forgets it only in silence. Three rounds may follow at once:
// while nothing at all carries data, when the peer's answer was lost, and after
// a direct path died, which may come back where it was.
//
// While a path is good it is checked each 2 s as data flows, at once when
// something was sent and nothing heard for 0.35 s, each 25 s when idle, and not
// at all after 10 idle minutes. A relay is not checked when idle. How large packets
// may be on the path is found beside that (sizer).
type machine struct {
	phase   State     // of the search: Idle, Start, Punch or Searching
	since   time.Time // of what State and best say
	targets []*target // at most maxCandidates, and the relays
	best    *target   // where packets go; nil: nowhere
	told    route     // as last told by an action
	reason  string    // of the change of best since then
	out     []action

	wanted    time.Time // last Want, offer, or data sent without a direct path
	sent      time.Time // last data sent to the peer
	large     time.Time // last of it in a packet larger than the base
	pours     int       // looks at it in a row between which large packets were sent
	stuck     bool      // such a stream stopped, and was not asked after yet
	received  time.Time // last data received over the path
	flows     bool      // data came densely when it last came
	checkedBy time.Time // last verified check of the peer

	// The round.
	searching  time.Time // since when; zero: there is a direct path, or nobody wants one
	rounds     int       // since then
	rescues    int       // of those that may yet follow at once
	roundBegan time.Time
	roundEnds  time.Time
	nextRound  time.Time // zero: none planned
	answeredBy time.Time // the peer's last offer
	queue      []probe   // by time
	counts     bool      // our NAT counts its ports up: none may be wasted before predicted ones are checked
	offered    time.Time
	offerRTT   time.Duration // of the signalling, as last measured; 0: not yet
	offerAt    time.Time     // an offer is due then, too soon after the last; zero: none
	replyUntil time.Time     // an answer to our offer is awaited until then; zero: none

	// Health of best.
	asked    time.Time // the oldest check of best not answered; zero: none
	doubted  time.Time // suspect since then; zero: not
	repeated time.Time // the last repetition while suspect
	misses   int
	strict   bool      // only an answer ends the wait for one: the peer may not hear us
	detour   time.Time // the last time that was supposed
	settled  time.Time // until then a better path is taken at once
	switched time.Time
	lost     *target // the direct path that died last
	lostAt   time.Time
	lostPing time.Time

	// The size of packets.
	maxMTU  int     // the largest that is looked for; 0: none is
	sized   *target // the path it is looked for on
	toldMTU int     // as last told by an action; 0: not yet
	lastMTU [3]int  // proved last, by sizeKind
}

// route is where packets go, in the words of [Paths].
type route struct {
	path, spare netip.AddrPort
	both        bool
}

// action is something the agent shall do.
type action struct {
	do   what
	addr netip.AddrPort // check, padded
	// now: the check is not held back by the budget of bursts; our mapped
	// addresses may have changed just now.
	now bool
	// reply and delay: of an offer.
	reply  bool
	delay  time.Duration
	relay  uint16 // use
	route  route
	mtu    int    // padded, mtu
	spare  bool   // padded: it is sent only if few of these were sent lately
	reason string // path, mtu: for the log; empty: the path itself is as it was
}

type what uint8

const (
	_        what = iota
	doCheck       // send a check to addr
	doOffer       // send our candidates
	doPath        // packets take route from now on
	doSTUN        // look at our own mapped addresses, if that was long ago
	doUse         // a session with relay is wanted
	doGuess       // a round failed: guess ports, if that is allowed
	doPadded      // send a check to addr that is as long as a packet of mtu
	doMTU         // packets to the peer may be as large as mtu from now on
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
	lostOffer    = 1200 * time.Millisecond // a round whose offer was not answered is repeated after
	maxRescues   = 3                       // rounds that follow at once

	activeFor      = 10 * time.Second // after data, the path counts as in use
	activePing     = 2 * time.Second
	idlePing       = 25 * time.Second
	idleFor        = 10 * time.Minute
	lingerFor      = 35 * time.Second // a path that only the peer uses
	otherPing      = 30 * time.Second // other proved paths of a peer in use
	otherRelayPing = 5 * time.Second  // another relay of a relayed peer in use
	otherFor       = 5 * time.Minute  // without an answer another path is no longer asked
	silence        = 350 * time.Millisecond
	lull           = 600 * time.Millisecond // data that came densely stopped, and nothing was sent: checked after
	dense          = 300 * time.Millisecond // no more than this from one packet to the next
	stopped        = 3 * time.Second        // as long as it flowed so lately
	minRTO         = 200 * time.Millisecond
	maxRTO         = 2 * time.Second // more than three round trips by a satellite
	maxMisses      = 5
	trustData      = 10 * time.Second // data counts as life this long after an answer
	recentPong     = 5 * time.Second  // another path answered this lately: taken when best is suspect
	triggerAgain   = time.Second      // no triggered check if the address answered this lately
	bothFor        = 5 * time.Second  // packets take two ways at most this long
	lostPings      = time.Second      // a direct path that died is asked again each
	lostFor        = 30 * time.Second // for so long

	settleFor    = 1500 * time.Millisecond
	settleMargin = time.Millisecond
	switchMargin = 3 * time.Millisecond
	switchWins   = 3
	switchPause  = 10 * time.Second

	pollActive = 100 * time.Millisecond // grids on which activity is looked at
	pollIdle   = 250 * time.Millisecond
)

var (
	burst = [...]time.Duration{0, 50e6, 100e6, 200e6, 400e6, 800e6, 1600e6, 3200e6}
	// roundGaps lie between rounds while a relay carries data, or when rescues are used up.
	roundGaps = [...]time.Duration{40e9, 80e9, 160e9, 300e9}
	// rescueGaps lie between the rounds that follow at once.
	rescueGaps = [maxRescues]time.Duration{5e9, 3e9, 2e9}
)

func newMachine(now time.Time, hints []netip.AddrPort, near func(netip.Addr) bool, maxMTU int) *machine {
	m := &machine{phase: Idle, since: now, maxMTU: maxMTU}
	for _, a := range hints {
		m.learn(candidate{Addr: a, Kind: old, Priority: old.priority(0)}, near(a.Addr()))
	}
	return m
}

// state is what others are told.
func (m *machine) state() State {
	switch {
	case m.direct() && !m.doubted.IsZero():
		return Suspect
	case m.direct():
		return Direct
	case m.best != nil && m.phase != Start && m.phase != Punch:
		return Relayed
	}
	return m.phase
}

// direct reports whether packets go straight to the peer.
func (m *machine) direct() bool { return m.best != nil && m.best.relay == nil }

// do queues an action.
func (m *machine) do(a action) { m.out = append(m.out, a) }

// take returns the actions so far.
func (m *machine) take() []action {
	out := m.out
	m.out = nil
	return out
}

// become changes the phase of the search.
func (m *machine) become(s State, now time.Time) {
	before := m.state()
	m.phase = s
	if m.state() != before {
		m.since = now
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
	if relaypath.Is(c.Addr.Addr()) {
		return nil
	}
	if t := m.find(c.Addr); t != nil {
		if c.Priority > t.Priority {
			t.candidate = c
		}
		t.near = near
		return t
	}
	t := &target{candidate: c, near: near}
	worst, room := -1, maxCandidates
	for i, x := range m.targets {
		if x.relay != nil {
			continue
		}
		room--
		if x != m.best && x != m.lost && (worst < 0 || m.lessUseful(x, m.targets[worst])) {
			worst = i
		}
	}
	if room > 0 {
		m.targets = append(m.targets, t)
		return t
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
		if t.relay == nil && t != m.best && !within(t.pong, now, otherFor) {
			t.Kind, t.Priority = old, old.priority(0)
		}
	}
	for _, c := range cands {
		m.learn(c, near(c.Addr.Addr()))
	}
}

// relocate looks anew which targets are on a network of ours.
func (m *machine) relocate(near func(netip.Addr) bool) {
	for _, t := range m.targets {
		t.near = t.relay == nil && near(t.Addr.Addr())
	}
}

// keeps reports whether addr is the path, or was until lately and may come back.
func (m *machine) keeps(addr netip.AddrPort) bool {
	return m.best != nil && m.best.Addr == addr || m.lost != nil && m.lost.Addr == addr
}

// inUse reports whether the peer matters now: it is wanted, or data flowed lately.
func (m *machine) inUse(now time.Time) bool { return within(m.lastUse(), now, wantedFor) }

// lastUse is when data last went either way, or was wanted to.
func (m *machine) lastUse() time.Time { return latest(m.wanted, latest(m.sent, m.received)) }

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
