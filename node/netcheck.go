package node

import (
	"context"
	"slices"
	"sync"
	"time"

	"nexd/controlclient"
	"nexd/discovery"
	"nexd/localapi"
	"nexd/relay"
)

// Netcheck implements localapi.Daemon: it measures what can be measured now,
// and tells the rest as it was measured last.
func (n *Node) Netcheck(ctx context.Context) (localapi.Netcheck, error) {
	st := n.Status()
	c := localapi.Netcheck{
		At:      time.Now().UTC(),
		NAT:     localapi.NATCheck{Kind: discovery.NATUnknown},
		Service: localapi.ServiceCheck{URL: st.Service.URL, Connected: st.Service.Connected, Error: n.serviceTrouble()},
	}
	var service controlclient.Measurement
	var serviceErr error
	var beside sync.WaitGroup
	beside.Go(func() { service, serviceErr = n.client.Measure(ctx) })
	if pl := n.dataPlane(); pl != nil {
		pl.agent.Remeasure(ctx)
		pl.look(ctx, &c)
	}
	c.NAT.Explanation = explainNAT(c.NAT.Kind)
	beside.Wait()
	switch {
	case serviceErr != nil && c.Service.Error == "":
		c.Service.Error = serviceErr.Error()
	case serviceErr == nil:
		c.Service.RTTMillis = millis(service.RTT)
		c.Clock = localapi.ClockCheck{Known: !service.Clock.IsZero(), AheadMillis: millis(service.Ahead)}
	}
	return c, nil
}

// look fills in what the data plane knows.
func (p *plane) look(ctx context.Context, c *localapi.Netcheck) {
	if o, ok := p.agent.Outlook(ctx); ok {
		c.NAT.Kind = o.Kind
		for _, s := range o.Servers {
			check := localapi.STUNCheck{Server: s.Addr.String(), Mapped: s.Mapped}
			if s.Mapped.IsValid() { // else the time is that of an earlier answer
				check.RTTMillis = millis(s.RTT)
			}
			c.STUN = append(c.STUN, check)
			c.UDP.IPv4 = c.UDP.IPv4 || s.Mapped.IsValid() && s.Addr.Addr().Is4()
			c.UDP.IPv6 = c.UDP.IPv6 || s.Mapped.IsValid() && s.Addr.Addr().Is6()
		}
		c.OwnCandidates = offered(o)
		var side sideFacts
		side.learn(o.Offered)
		c.IPv6 = side.IPv6
	}
	if p.mapper != nil {
		s := p.mapper.Status()
		c.PortMapping = localapi.PortMappingCheck{Enabled: true, Protocol: s.Protocol, External: s.External, Error: s.Err}
		if s.Useless != "" {
			c.PortMapping.Error = s.Useless
		}
	}
	for _, s := range p.relays.Status() {
		c.Relays = append(c.Relays, relayCheck(s))
		if s.Connected && s.Transport == relay.UDP && s.UDP.IsValid() {
			c.UDP.IPv4 = c.UDP.IPv4 || s.UDP.Addr().Is4()
			c.UDP.IPv6 = c.UDP.IPv6 || s.UDP.Addr().Is6()
		}
	}
	slices.SortStableFunc(c.Relays, func(a, b localapi.RelayCheck) int { return rank(a) - rank(b) })
}

// rank puts the home first, then the standby.
func rank(r localapi.RelayCheck) int {
	switch {
	case r.Home:
		return 0
	case r.Standby:
		return 1
	}
	return 2
}

// relayCheck tells what is known of a relay: of the transport in use, and of
// UDP where it was measured without a session.
func relayCheck(s relay.PoolStatus) localapi.RelayCheck {
	c := localapi.RelayCheck{ID: s.ID, Name: s.Name, URL: s.URL, Home: s.Home, Standby: s.Standby}
	leg := localapi.LegCheck{Tried: true, OK: true, RTTMillis: millis(s.RTT)}
	switch {
	case s.Connected && s.Transport == relay.TLS:
		c.TLS = leg
		c.UDP = localapi.LegCheck{Tried: true, Error: "no answer by UDP"}
	case s.Connected, s.RTT > 0:
		c.UDP = leg
	case s.Err != nil:
		failed := localapi.LegCheck{Tried: true, Error: relayTrouble(s.Err)}
		c.UDP, c.TLS = failed, failed
		if ofHTTPS(s.Err) { // which is tried when UDP gave none
			c.UDP.Error = "no answer by UDP"
		}
	}
	return c
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
