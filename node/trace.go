package node

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"nexd/controlapi"
	"nexd/discovery"
	"nexd/localapi"
)

// Trace implements localapi.Daemon.
func (n *Node) Trace(_ context.Context, peer string) (localapi.Trace, error) {
	dev, ok := n.roster.peer(peer)
	if !ok {
		return localapi.Trace{}, unknownPeer(peer)
	}
	t := localapi.Trace{
		Peer:  localapi.TracePeer{Name: dev.Name, ID: dev.ID, PublicKey: dev.PublicKey, Addresses: dev.Addresses},
		State: discovery.Idle.String(), PeerNAT: discovery.NATUnknown,
	}
	if pl := n.dataPlane(); pl != nil {
		at := pl.agent.Peer(dev.PublicKey)
		t.State, t.Since, t.Path = at.State.String(), at.Since, pl.path(dev.PublicKey)
		if at.Addr.IsValid() {
			t.Candidates = []localapi.Candidate{{Address: at.Addr.String(), State: localapi.CandidatePath, RTTMillis: millis(at.RTT)}}
		}
		t.OwnCandidates = pl.offered()
	}
	return t, nil
}

// Netcheck implements localapi.Daemon.
func (n *Node) Netcheck(context.Context) (localapi.Netcheck, error) {
	st := n.Status()
	c := localapi.Netcheck{
		At:      time.Now().UTC(),
		NAT:     localapi.NATCheck{Kind: st.NAT.Kind, Explanation: explainNAT(st.NAT.Kind)},
		Service: localapi.ServiceCheck{URL: st.Service.URL, Connected: st.Service.Connected, Error: n.serviceTrouble()},
	}
	for _, m := range st.NAT.Mapped {
		if m.Addr().Is4() {
			c.UDP.IPv4 = true
		} else {
			c.UDP.IPv6 = true
		}
	}
	if pl := n.dataPlane(); pl != nil {
		c.OwnCandidates = pl.offered()
	}
	c.IPv6 = slices.ContainsFunc(st.NAT.Mapped, func(a netip.AddrPort) bool { return a.Addr().Is6() })
	return c, nil
}

// Doctor implements localapi.Daemon.
func (n *Node) Doctor(context.Context) (localapi.Doctor, error) { return diagnose(n.checkup()), nil }

// checkup gathers what the doctor looks at.
func (n *Node) checkup() checkup {
	st := n.Status()
	c := checkup{
		Now: time.Now(), Ready: st.Ready, Reasons: st.Reasons,
		Service: serviceFacts{URL: st.Service.URL, Connected: st.Service.Connected, Since: st.Service.Since, Err: n.serviceTrouble()},
	}
	c.Own.NAT, c.Own.UDP, c.Own.Static = st.NAT.Kind, st.NAT.UDP, n.cfg.Endpoint != ""
	for _, m := range st.NAT.Mapped {
		c.Own.Public = append(c.Own.Public, m.Addr())
		c.Own.IPv6 = c.Own.IPv6 || m.Addr().Is6()
	}
	pl, m := n.dataPlane(), n.roster.current()
	if pl == nil || m == nil {
		return c
	}
	c.Own.Port = pl.bind.Port()
	for _, r := range st.Relays {
		c.Relays = append(c.Relays, relayFacts{
			Name: r.Name, Home: r.Home, Connected: r.Connected, Transport: r.Transport,
			RTT: time.Duration(r.RTTMillis * float64(time.Millisecond)), Err: r.Error,
		})
	}
	for _, p := range m.Peers {
		c.Peers = append(c.Peers, pl.facts(p))
	}
	return c
}

// facts is what the doctor hears of a peer.
func (p *plane) facts(d controlapi.Device) peerFacts {
	at := p.agent.Peer(d.PublicKey)
	f := peerFacts{Name: d.Name, Path: p.path(d.PublicKey), Wanted: at.State != discovery.Idle, Relays: len(d.Relays)}
	if at.State == discovery.Searching {
		f.Searching = at.Since
	}
	return f
}

// offered lists the addresses that peers are told.
func (p *plane) offered() []localapi.OwnCandidate {
	var out []localapi.OwnCandidate
	for _, a := range p.agent.NAT().Mapped {
		out = append(out, localapi.OwnCandidate{Address: a, Kind: localapi.CandidateServerReflexive})
	}
	return out
}

// serviceTrouble says why the service is not connected; empty: it is.
func (n *Node) serviceTrouble() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.life.connected || n.life.err == nil {
		return ""
	}
	return n.life.err.Error()
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
