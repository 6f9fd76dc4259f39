package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"nexd/controlapi"
	"nexd/discovery"
	"nexd/internal/relaypath"
	"nexd/localapi"
)

// answerFresh is how old an answer may be for a candidate to count as one that
// works; waitFresh how old a check that may yet be answered.
const (
	answerFresh = 2 * time.Minute
	waitFresh   = 2 * time.Second
)

// Trace implements localapi.Daemon.
func (n *Node) Trace(ctx context.Context, peer string) (localapi.Trace, error) {
	dev, ok := n.roster.peer(peer)
	if !ok {
		return localapi.Trace{}, unknownPeer(peer)
	}
	t := localapi.Trace{
		Peer:  localapi.TracePeer{Name: dev.Name, ID: dev.ID, PublicKey: dev.PublicKey, Addresses: dev.Addresses},
		State: discovery.Idle.String(), PeerNAT: discovery.NATUnknown,
		Path: localapi.PathStatus{Kind: localapi.PathNone}, Spare: localapi.PathStatus{Kind: localapi.PathNone},
	}
	pl := n.dataPlane()
	if pl == nil {
		return t, nil
	}
	r, ok := pl.agent.Report(ctx, dev.PublicKey)
	if !ok {
		return t, nil // it is ending, or the device has just left
	}
	t.State, t.Since, t.Both = r.State.String(), r.Since, r.Both
	t.Path, t.Spare = pl.path(dev.PublicKey), pl.way(r.Spare)
	t.PeerNAT, t.MTU = r.NAT, pl.mtu(dev.PublicKey)
	t.Rounds = localapi.TraceRounds{Count: r.Rounds, Next: r.Next}
	t.PeerRelays = pl.relayNames(r.Relays)
	for _, c := range r.Candidates {
		t.Candidates = append(t.Candidates, pl.candidate(c, r.Addr))
	}
	if o, ok := pl.agent.Outlook(ctx); ok {
		t.OwnCandidates = offered(o)
	}
	for _, e := range r.Events {
		t.History = append(t.History, localapi.TraceEvent(e))
	}
	return t, nil
}

// candidate describes one way to a peer whose path is at path.
func (p *plane) candidate(c discovery.CandidateReport, path netip.AddrPort) localapi.Candidate {
	now := time.Now()
	out := localapi.Candidate{
		Kind: c.Kind, State: localapi.CandidateSilent, RTTMillis: millis(c.RTT),
		LastSent: c.Sent, LastAnswer: c.Answered, Checks: uint64(c.Checks), Answers: uint64(c.Answers),
	}
	if relaypath.Number(c.Addr) != 0 {
		out.Relay = p.way(c.Addr).Relay
	} else {
		out.Address = c.Addr.String()
	}
	switch {
	case c.Addr == path:
		out.State = localapi.CandidatePath
	case !c.Answered.IsZero() && now.Sub(c.Answered) < answerFresh:
		out.State = localapi.CandidateAnswered
	case c.Checks == 0:
		out.State = localapi.CandidateUntried
	case now.Sub(c.Sent) < waitFresh:
		out.State = localapi.CandidateWaiting
	}
	return out
}

// offered lists the addresses that peers are told.
func offered(o discovery.Outlook) []localapi.OwnCandidate {
	var out []localapi.OwnCandidate
	for _, c := range o.Offered {
		out = append(out, localapi.OwnCandidate{Address: c.Addr, Kind: c.Kind})
	}
	return out
}

// relayNames names relays by the pool's numbers.
func (p *plane) relayNames(numbers []uint16) []localapi.RelayName {
	var out []localapi.RelayName
	list := p.relays.Status()
	for _, number := range numbers {
		for _, s := range list {
			if s.Number == number {
				out = append(out, localapi.RelayName{ID: s.ID, Name: s.Name})
			}
		}
	}
	return out
}

// dataPlane is nil until the device is a member.
func (n *Node) dataPlane() *plane {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.plane
}

func unknownPeer(peer string) error {
	return &localapi.UserError{
		Message: fmt.Sprintf("no member of the mesh is called %q", peer),
		Hint:    "nexctl nexd peers list shows them",
	}
}

// Doctor implements localapi.Daemon.
func (n *Node) Doctor(ctx context.Context) (localapi.Doctor, error) {
	return diagnose(n.checkup(ctx)), nil
}

// checkup gathers what the doctor looks at.
func (n *Node) checkup(ctx context.Context) checkup {
	st := n.Status()
	c := checkup{
		Now: time.Now(), Ready: st.Ready, Reasons: st.Reasons,
		Service: serviceFacts{URL: st.Service.URL, Connected: st.Service.Connected, Since: st.Service.Since, Err: n.serviceTrouble()},
	}
	pl, m := n.dataPlane(), n.roster.current()
	if pl == nil || m == nil {
		n.mu.Lock()
		c.Outside, c.Expelled = true, n.life.expelled
		n.mu.Unlock()
		return c
	}
	if o, ok := pl.agent.Outlook(ctx); ok {
		c.Own.NAT, c.Own.UDP = o.Kind, o.UDP
		c.Own.sideFacts.learn(o.Offered)
	}
	c.Own.PunchHard, c.Own.Port = n.cfg.PunchHardNAT, pl.bind.Port()
	if pl.mapper != nil {
		s := pl.mapper.Status()
		c.Own.MappingAsk, c.Own.MappingErr = true, s.Err
		if c.Own.MappingErr == "" {
			c.Own.MappingErr = s.Useless
		}
	}
	if s, err := n.client.Measure(ctx); err == nil && !s.Clock.IsZero() {
		c.ClockKnown, c.ClockAhead = true, s.Ahead
	}
	for _, r := range st.Relays {
		c.Relays = append(c.Relays, relayFacts{
			Name: r.Name, Home: r.Home, Connected: r.Connected, Transport: r.Transport,
			RTT: time.Duration(r.RTTMillis * float64(time.Millisecond)), Err: r.Error,
		})
	}
	for _, p := range m.Peers {
		c.Peers = append(c.Peers, pl.facts(ctx, p))
	}
	return c
}

// learn takes what the addresses an end offers say of it.
func (s *sideFacts) learn(candidates []discovery.CandidateReport) {
	for _, c := range candidates {
		switch c.Kind {
		case localapi.CandidateServerReflexive:
			if !slices.Contains(s.Public, c.Addr.Addr()) {
				s.Public = append(s.Public, c.Addr.Addr())
			}
		case localapi.CandidateMapped:
			s.Mapped = true
		case localapi.CandidateStatic:
			s.Static = true
		}
		if ip := c.Addr.Addr(); ip.Is6() && ip.IsGlobalUnicast() && !ip.IsPrivate() && relaypath.Number(c.Addr) == 0 {
			s.IPv6 = true
		}
	}
}

// facts is what the doctor hears of a peer.
func (p *plane) facts(ctx context.Context, d controlapi.Device) peerFacts {
	f := peerFacts{Name: d.Name, Path: p.path(d.PublicKey), Relays: len(d.Relays)}
	if p.agent.Peer(d.PublicKey).State == discovery.Idle {
		return f // nothing else is known of most members
	}
	r, ok := p.agent.Report(ctx, d.PublicKey)
	if !ok {
		return f
	}
	f.Wanted, f.Silent = r.State != discovery.Idle, r.State == discovery.Suspect
	f.Offered, f.NAT, f.Next, f.PunchHard = r.Offered, r.NAT, r.Next, r.PunchHard
	f.sideFacts.learn(r.Candidates)
	if r.State != discovery.Direct && r.State != discovery.Suspect {
		f.Searching = r.Searching
	}
	for _, c := range r.Candidates {
		if relaypath.Number(c.Addr) != 0 {
			continue
		}
		if c.Checks > 0 {
			f.Tried++
		}
		if c.Answers > 0 {
			f.Answered++
		}
	}
	return f
}
