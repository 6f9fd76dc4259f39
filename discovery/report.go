package discovery

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"nexd/key"
)

// Report is all that is known of the ways to a peer, for people.
type Report struct {
	PeerPath
	// NAT is the peer's kind of NAT, as its last offer says; Offered: there was one.
	NAT     string
	Offered bool
	// PunchHard: the peer guesses ports of hard NATs, as its last offer says.
	PunchHard bool
	// Searching is since when a direct path is looked for in vain; zero: none is.
	Searching time.Time
	// Relays are those the peer is said to be at, its home first.
	Relays []uint16
	// Rounds counts the rounds of checks since the search began; Next is when
	// the next one begins, zero: none is planned.
	Rounds int
	Next   time.Time
	// Candidates are the peer's, the path first.
	Candidates []CandidateReport
	Events     []Event // at most 32, oldest first
}

// CandidateReport is one way to a peer.
type CandidateReport struct {
	Addr            netip.AddrPort // may stand for a relay
	Kind            string         // as in RFC 8445, or static, mapped, predicted, hint, relay
	RTT             time.Duration  // the best of the last checks; 0: none was answered
	Sent, Answered  time.Time      // the last check and the last answer
	Checks, Answers int
}

// Outlook is what is known of the way to the internet, for people.
type Outlook struct {
	NATInfo
	// Step is by how much the ports of a hard NAT count up with each new flow, as
	// seen last; 0: they do not, or that is not known.
	Step    int
	Servers []ServerReport
	// Offered are the addresses peers are told, best first.
	Offered []CandidateReport
}

// ServerReport is a STUN server in use.
type ServerReport struct {
	Addr   netip.AddrPort
	Mapped netip.AddrPort // as it sees us; invalid: it did not answer
	RTT    time.Duration  // 0: it did not answer
}

// ask has f run between two events of Run; false: ctx or Run ended before.
func (a *Agent) ask(ctx context.Context, f func()) bool {
	done := make(chan struct{})
	select {
	case a.questions <- func() { f(); close(done) }:
	case <-ctx.Done():
		return false
	case <-a.ended:
		return false
	}
	select {
	case <-done:
		return true
	case <-a.ended:
		return false
	}
}

// Report returns what is known of a peer; false when it is no member, or the
// agent does not run.
func (a *Agent) Report(ctx context.Context, peer key.Public) (r Report, ok bool) {
	a.ask(ctx, func() {
		p := a.peers[peer]
		if p == nil {
			return
		}
		ok = true
		r = Report{PeerPath: PeerPath{State: Idle}, NAT: NATUnknown, Relays: slices.Clone(p.relays)}
		if p.session != nil {
			a.report(p, &r)
		}
	})
	return r, ok
}

func (a *Agent) report(p *peer, r *Report) {
	m := p.machine
	r.PeerPath = p.shown
	r.NAT, r.PunchHard, r.Offered = natName(p.nat), p.punchHard, !m.answeredBy.IsZero()
	if len(p.offered) > 0 {
		r.Relays = slices.Clone(p.offered)
	}
	r.Rounds, r.Searching = m.rounds, m.searching
	if m.phase != Idle && m.wants(time.Now()) {
		r.Next = m.roundAt()
	}
	r.Events = slices.Clone(p.story.events)
	for _, t := range m.targets {
		if t.relay != nil && t.relay.rank >= unranked && t.n == 0 && t != m.best {
			continue // nobody said that the peer is there
		}
		c := CandidateReport{Addr: t.Addr, Kind: t.Kind.String(), Sent: t.asked, Answered: t.pong, Checks: t.checks, Answers: t.n}
		if t.n > 0 {
			c.RTT = t.rtt()
		}
		if t == m.best {
			r.Candidates = slices.Insert(r.Candidates, 0, c)
		} else {
			r.Candidates = append(r.Candidates, c)
		}
	}
}

// Outlook returns what is known of the way to the internet; false when the
// agent does not run.
func (a *Agent) Outlook(ctx context.Context) (o Outlook, ok bool) {
	ok = a.ask(ctx, func() {
		o.NATInfo, o.Step = a.NAT(), int(a.natStep())
		for _, s := range a.stun.servers {
			o.Servers = append(o.Servers, ServerReport{Addr: s, Mapped: a.stun.seen[s], RTT: a.stun.rtts[s]})
		}
		for _, c := range a.ownCandidates() {
			o.Offered = append(o.Offered, CandidateReport{Addr: c.Addr, Kind: c.Kind.String()})
		}
	})
	return o, ok
}

// Remeasure asks the STUN servers again and returns when they answered or
// their time is over, or ctx ends.
func (a *Agent) Remeasure(ctx context.Context) {
	if !a.ask(ctx, func() {
		a.stun.start(time.Now())
		a.advanceSTUN(time.Now())
	}) {
		return
	}
	for done := false; !done; {
		select {
		case <-ctx.Done():
			return
		case <-time.After(remeasurePoll):
		}
		if !a.ask(ctx, func() { done = a.stun.done }) {
			return
		}
	}
}

const remeasurePoll = 20 * time.Millisecond

func natName(code uint8) string {
	switch code {
	case 1:
		return NATOpen
	case 2:
		return NATEasy
	case 3:
		return NATHard
	case 4:
		return NATBlocked
	}
	return NATUnknown
}
