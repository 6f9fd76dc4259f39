//go:build linux

package main

import (
	"time"

	"nexd/localapi"
	"nexd/test/lab"
)

// scenarios are played in this order.
var scenarios = []scenario{
	{name: "first", what: "both members know the service and their relays, and nothing of each other; 4 KiB are sent", play: func(b *bench) { first(b, 0, lab.PortRestricted, lab.PortRestricted) }},
	{name: "first-loss", what: "the same with 5 % of the packets lost each way", play: func(b *bench) { first(b, 0.05, lab.PortRestricted, lab.PortRestricted) }},
	{name: "first-tls", what: "neither knows the other, one has no UDP and the other a symmetric NAT", play: func(b *bench) { first(b, 0, lab.UDPBlocked, lab.Symmetric) }},
	{name: "cold", what: "a new member starts, joins and talks to another; from the start of its process", play: cold},
	{name: "block", what: "nothing passes between two sites for some seconds", play: block},
	{name: "rebind", what: "a NAT forgets its mappings and gives out other ports, the two in turn", play: func(b *bench) { change(b, (*lab.Site).Rebind, goal{P95: 1000}) }},
	{name: "roam", what: "a site gets another address, relay sessions are lost, the two in turn", play: func(b *bench) { change(b, (*lab.Site).Roam, goal{Max: 2500}) }},
	{name: "link", what: "a site is without a link for three seconds", play: link},
	{name: "udp", what: "all UDP of a site is blocked, and unblocked", play: udp},
	{name: "relay", what: "the relay in use is killed, another one goes on", play: relayKilled},
	{name: "peers", what: "a member with many peers, to each of which something is sent every second", play: peers},
	{name: "loss", what: "ten minutes with 5 % of the packets lost each way", long: true, play: loss},
}

// outage measures a connection that lives through something and its end, again
// and again.
type outage struct {
	tcp, udp *metric
}

func (b *bench) outage(name string, g goal) outage {
	return outage{b.metric(name+": silence of TCP", g), b.metric(name+": silence of UDP", goal{})}
}

// measure does something to the network and notes how long it was silent.
func (o outage) measure(b *bench, c *beats, do func()) error {
	begun := time.Now()
	do()
	tcp, udp, err := c.settle(begun, 1500*time.Millisecond)
	if err != nil {
		return err
	}
	o.tcp.add(tcp)
	o.udp.add(udp)
	return nil
}

// steady is how long a pair is left alone between two runs, so that one does
// not meet what the last one left.
const steady = 2 * time.Second

// calmly waits until the pair is direct and was left alone for a while.
func (b *bench) calmly(c *beats) error {
	if _, err := b.reach(direct); err != nil {
		return err
	}
	_, _, err := c.settle(time.Now(), steady)
	return err
}

// connected is a pair of port-restricted sites with its connections, traced.
func (b *bench) connected() *beats {
	b.pair(lab.PortRestricted, lab.PortRestricted)
	b.relayed(5 * time.Second) // without relays some scenarios make sense, too
	c, err := b.beat(direct)
	if err != nil {
		b.t.Fatalf("%v", err)
	}
	b.t.Cleanup(c.close)
	b.follow()
	return c
}

func block(b *bench) {
	c := b.connected()
	if !b.relayed(5 * time.Second) {
		b.skip("no relay: nothing goes on while the direct path is blocked")
		return
	}
	silence := b.outage("blocked", goal{P95: 1000, Max: 2500})
	back := b.metric("back to direct after unblocking", goal{Max: 10000})
	sa, sb := b.a.At.Site(), b.b.At.Site()
	b.repeat(func(int) error {
		if err := b.calmly(c); err != nil {
			return err
		}
		defer b.world.Unblock(sa, sb)
		if err := silence.measure(b, c, func() { b.world.Block(sa, sb) }); err != nil {
			return err
		}
		if _, err := b.reach(localapi.PathRelay); err != nil {
			return err
		}
		healed := time.Now()
		b.world.Unblock(sa, sb)
		at, err := b.reach(direct)
		if err == nil {
			back.add(at.Sub(healed))
		}
		return err
	})
}

// change measures what happens to the one site and the other in turn, after
// which the pair is to be direct again.
func change(b *bench, what func(*lab.Site), g goal) {
	c := b.connected()
	silence := b.outage("changed", g)
	back := b.metric("direct on both sides, at the latest", goal{})
	b.repeat(func(run int) error {
		if err := b.calmly(c); err != nil {
			return err
		}
		s := b.a.At.Site()
		if run%2 == 1 {
			s = b.b.At.Site()
		}
		begun := time.Now()
		if err := silence.measure(b, c, func() { what(s) }); err != nil {
			return err
		}
		at, err := b.reach(direct)
		if err == nil {
			back.add(at.Sub(begun))
		}
		return err
	})
}

func link(b *bench) {
	c := b.connected()
	const length = 3 * time.Second
	silence := b.outage("three seconds", goal{P95: 4000})
	b.repeat(func(int) error {
		if err := b.calmly(c); err != nil {
			return err
		}
		s := b.a.At.Site()
		return silence.measure(b, c, func() {
			s.LinkDown()
			time.Sleep(length) // the outage
			s.LinkUp()
		})
	})
}

func udp(b *bench) {
	c := b.connected()
	if !b.relayed(5 * time.Second) {
		b.skip("no relay: nothing goes on without UDP")
		return
	}
	blocked := b.outage("blocked", goal{P95: 2500})
	unblocked := b.outage("unblocked", goal{P95: 1000})
	back := b.metric("back to direct after unblocking", goal{Max: 10000})
	s := b.b.At.Site()
	b.repeat(func(int) error {
		if err := b.calmly(c); err != nil {
			return err
		}
		defer s.UDPUnblock()
		if err := blocked.measure(b, c, s.UDPBlock); err != nil {
			return err
		}
		if _, err := b.reach(localapi.PathRelay); err != nil {
			return err
		}
		healed := time.Now()
		if err := unblocked.measure(b, c, s.UDPUnblock); err != nil {
			return err
		}
		at, err := b.reach(direct)
		if err == nil {
			back.add(at.Sub(healed))
		}
		return err
	})
}
