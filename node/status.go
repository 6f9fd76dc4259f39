package node

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"nexd/controlapi"
	"nexd/internal/buildinfo"
	"nexd/internal/relaypath"
	"nexd/key"
	"nexd/localapi"
	"nexd/rules"
	"nexd/tunnel"
)

// lifecycle is where the node stands towards the service.
type lifecycle struct {
	state     string
	url       string
	connected bool
	since     time.Time // of the present connection, or of its loss
	err       error     // why there is none
	expelled  bool      // the service forgot this device
}

// setState moves the node's life on; nothing follows draining.
func (n *Node) setState(s string) {
	n.mu.Lock()
	if n.life.state != localapi.StateDraining {
		n.life.state = s
	}
	n.mu.Unlock()
	n.changed.notify()
}

// service notes whether the stream of the service is there.
func (n *Node) service(connected bool, err error) {
	n.mu.Lock()
	l := &n.life
	if l.connected != connected || l.since.IsZero() {
		l.since = time.Now()
	}
	l.connected, l.err = connected, err
	if connected {
		l.expelled = false
	}
	if l.state != localapi.StateDraining && !l.expelled {
		l.state = localapi.StateOffline
		if connected {
			l.state = localapi.StateRunning
		}
	}
	n.mu.Unlock()
	n.changed.notify()
}

// serviceError notes why the service does not answer a join; nil: it did.
func (n *Node) serviceError(err error) {
	n.mu.Lock()
	n.life.err = err
	n.mu.Unlock()
	n.changed.notify()
}

// Status implements localapi.Daemon.
func (n *Node) Status() localapi.Status {
	n.mu.Lock()
	life, pl, engine, ruled := n.life, n.plane, n.engine, n.ruled
	n.mu.Unlock()
	st := localapi.Status{
		Schema: localapi.Schema, Version: buildinfo.Version(), State: life.state,
		Reasons: []string{},
		Service: localapi.ServiceStatus{URL: life.url, Connected: life.connected, Since: life.since},
		NAT:     localapi.NATStatus{Kind: "unknown", Mapped: []netip.AddrPort{}},
		Relays:  []localapi.RelayStatus{},
		Peers:   []localapi.PeerStatus{},
		Rules:   []localapi.RuleStatus{},
	}
	m := n.roster.current()
	if m != nil {
		st.Device = localapi.DeviceStatus{Name: m.Self.Name, ID: m.Self.ID, PublicKey: m.Self.PublicKey, Addresses: nonNil(m.Self.Addresses)}
	} else {
		st.Device = localapi.DeviceStatus{PublicKey: n.store.Data().PrivateKey.Public(), Addresses: []netip.Addr{}}
	}
	if pl != nil && m != nil {
		nat := pl.agent.NAT()
		st.NAT = localapi.NATStatus{Kind: nat.Kind, Mapped: nonNil(nat.Mapped), UDP: nat.UDP}
		st.Relays = pl.relayStatus()
		st.Peers = pl.peers(m)
	}
	if ruled {
		for _, r := range engine.Status() {
			st.Rules = append(st.Rules, localapi.RuleStatus{
				Direction: r.Rule.Direction.String(), Rule: r.Rule.String(), State: r.State, Error: r.Error,
				Active: r.Active, Total: r.Total, BytesIn: r.BytesIn, BytesOut: r.BytesOut,
			})
		}
	} else {
		st.Rules = waitingRules(n.book.rules())
	}
	st.Reasons = reasons(life, pl != nil, st.Rules)
	st.Ready = len(st.Reasons) == 0
	return st
}

// reasons lists what stands between the node and being ready.
func reasons(life lifecycle, up bool, list []localapi.RuleStatus) []string {
	out := []string{}
	switch {
	case life.expelled:
		reason := "the service no longer knows this device: restart it with a registration key"
		if life.err != nil {
			reason += ": " + life.err.Error() // the key it was given is refused
		}
		out = append(out, reason)
	case life.state == localapi.StateDraining:
		out = append(out, "the daemon is ending")
	case !up:
		reason := "the device has not joined the mesh"
		if life.err != nil {
			reason += ": " + life.err.Error()
		}
		out = append(out, reason)
	}
	for _, r := range list {
		if r.State == localapi.RuleFailed && up {
			out = append(out, strings.Join([]string{r.Direction, r.Rule}, " ")+": "+r.Error)
		}
	}
	return out
}

// waitingRules shows the rules of a node that is not a member yet.
func waitingRules(list []rules.Rule) []localapi.RuleStatus {
	out := make([]localapi.RuleStatus, 0, len(list))
	for _, r := range list {
		out = append(out, localapi.RuleStatus{
			Direction: r.Direction.String(), Rule: r.String(),
			State: localapi.RuleFailed, Error: "waits until the device has joined the mesh",
		})
	}
	return out
}

// peers describes every other member, by name.
func (p *plane) peers(m *controlapi.Map) []localapi.PeerStatus {
	stats := p.tunnel.Stats()
	out := make([]localapi.PeerStatus, 0, len(m.Peers))
	for _, d := range m.Peers {
		out = append(out, p.peer(d, stats[d.PublicKey]))
	}
	slices.SortFunc(out, func(a, b localapi.PeerStatus) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (p *plane) peer(d controlapi.Device, s tunnel.PeerStats) localapi.PeerStatus {
	return localapi.PeerStatus{
		Name: d.Name, ID: d.ID, PublicKey: d.PublicKey, Addresses: nonNil(d.Addresses),
		Path: p.path(d.PublicKey), MTU: p.mtu(d.PublicKey), LastHandshake: s.LastHandshake, TxBytes: s.Tx, RxBytes: s.Rx,
	}
}

// path describes how packets reach a peer now.
func (p *plane) path(peer key.Public) localapi.PathStatus {
	at := p.agent.Peer(peer)
	st := p.way(at.Addr)
	if at.Addr.IsValid() {
		st.RTTMillis, st.Since = millis(at.RTT), at.Held
	}
	return st
}

// way describes one path by where it leads.
func (p *plane) way(to netip.AddrPort) localapi.PathStatus {
	number := relaypath.Number(to)
	switch {
	case !to.IsValid():
		return localapi.PathStatus{Kind: localapi.PathNone}
	case number == 0:
		return localapi.PathStatus{Kind: localapi.PathDirect, Endpoint: to.String()}
	}
	st := localapi.PathStatus{Kind: localapi.PathRelay}
	for _, r := range p.relays.Status() {
		if r.Number == number {
			st.Relay = r.Name
			if r.Connected {
				st.Transport = r.Transport.String()
			}
			if r.UDP.IsValid() {
				st.Endpoint = r.UDP.String()
			}
		}
	}
	return st
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// nonNil makes an empty list print as [] and not as null.
func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}
