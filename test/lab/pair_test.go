//go:build linux

package lab

import (
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

// together is a round in which both sides start at once.
var together = [2]time.Duration{}

// pairOf opens a pair for the length of the test.
func pairOf(t *testing.T, a, b *Node) *Pair {
	t.Helper()
	p, err := NewPair(a, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// Every pair of kinds reaches what theory says, and nothing else.
func TestPairs(t *testing.T) {
	t.Parallel()
	l := New(t)
	var left, right []*Site
	for _, k := range Kinds() {
		for _, side := range []*[]*Site{&left, &right} {
			s := l.Site(k, Options{})
			if k == LinuxOpen {
				s.Latency(50*time.Millisecond, 0, 0) // first probes cross on their way
			}
			*side = append(*side, s)
		}
	}
	var pairs, direct atomic.Int32
	var g errgroup.Group
	g.SetLimit(8)
	for i, a := range left {
		for _, b := range right[i:] {
			g.Go(func() error {
				p, err := NewPair(a.Node(1), b.Node(1))
				if err != nil {
					return err
				}
				defer p.Close()
				limit := 600 * time.Millisecond
				if Punchable(a.Kind, b.Kind) {
					limit = 5 * time.Second
				}
				o := p.Punch(limit, together)
				if o.Direct() != Punchable(a.Kind, b.Kind) {
					t.Errorf("%s × %s: %s, theory says %t", a.Kind, b.Kind, o, !o.Direct())
				}
				pairs.Add(1)
				if o.Direct() {
					direct.Add(1)
				}
				return nil
			})
		}
	}
	if err := g.Wait(); err != nil {
		t.Error(err)
	}
	t.Logf("%d of %d pairs are direct", direct.Load(), pairs.Load())
}

// A peer's early probe leaves an entry in the connection table of a host that
// does not drop it, at the place of the mapping our own packet needs; that
// moves to another port, where the peer does not expect it. Each further probe
// keeps the entry alive. Sides that start at once do not meet it, and a long
// silence heals it.
func TestStickyTrap(t *testing.T) {
	t.Parallel()
	l := New(t)
	open, peer := l.Site(LinuxOpen, Options{}), l.Site(PortRestricted, Options{})
	open.Latency(50*time.Millisecond, 0, 0)
	open.Timeout(time.Second)

	trapped := pairOf(t, open.Node(1), peer.Node(1))
	open.Flush() // as after a silence, but without waiting: the way out must be opened anew
	const round = 800 * time.Millisecond
	if o := trapped.Punch(round, [2]time.Duration{300 * time.Millisecond, 0}); o.Direct() {
		t.Errorf("a late start: %s, want none", o)
	}
	if o := trapped.Punch(round, together); o.Direct() {
		t.Errorf("again at once, together: %s, want none", o)
	}

	fresh := pairOf(t, open.Node(1), peer.Node(1))
	if o := fresh.Punch(5*time.Second, together); !o.Direct() {
		t.Errorf("together from the start: %s", o)
	}

	// A silence longer than the router remembers heals it, but no sooner than the
	// dead flow has been collected: till then Linux gives its port to new ones.
	time.Sleep(2 * time.Second)
	open.Collect()
	if o := trapped.Punch(5*time.Second, together); !o.Direct() {
		t.Errorf("together after a silence: %s", o)
	}
}

// Two homes of one carrier meet over its hairpin alone.
func TestOneCarrier(t *testing.T) {
	t.Parallel()
	l := New(t)
	for _, hairpin := range []bool{true, false} {
		carrier := l.Carrier(FullCone, Options{Hairpin: hairpin})
		a := l.Site(PortRestricted, Options{Via: carrier})
		b := l.Site(PortRestricted, Options{Via: carrier})
		p := pairOf(t, a.Node(1), b.Node(1))
		if m := p.Mapped(); m[0].Addr() != carrier.Outside() || m[1].Addr() != carrier.Outside() || a.Outside() != carrier.Outside() {
			t.Errorf("seen as %v, want both at %s", m, carrier.Outside())
		}
		limit := 800 * time.Millisecond
		if hairpin {
			limit = 5 * time.Second
		}
		if o := p.Punch(limit, together); o.Direct() != hairpin {
			t.Errorf("hairpin %t: %s", hairpin, o)
		}
		if !hairpin {
			continue
		}
		l.Block(a, b)
		blocked := pairOf(t, a.Node(1), b.Node(1))
		if o := blocked.Punch(800*time.Millisecond, together); o.Direct() {
			t.Errorf("blocked inside the carrier: %s", o)
		}
	}
}

// Nodes of one LAN reach each other there, and over the outside with a hairpin
// alone; homes with the same addresses inside reach each other outside.
func TestLANs(t *testing.T) {
	t.Parallel()
	l := New(t)
	lan := netip.MustParsePrefix("192.168.1.0/24")
	flat := l.Site(PortRestricted, Options{Nodes: 2, LAN: lan})
	hairpin := l.Site(PortRestricted, Options{Nodes: 2, LAN: lan, Hairpin: true})
	for _, s := range []*Site{flat, hairpin} {
		p := pairOf(t, s.Node(1), s.Node(2))
		if o := p.Punch(5*time.Second, together); !o.Direct() {
			t.Errorf("on one LAN: %s", o)
		}
		p = pairOf(t, s.Node(1), s.Node(2))
		if src, ok := arrives(p.ends[0].conn, p.Mapped()[1], p.ends[1].conn); ok != s.options.Hairpin {
			t.Errorf("hairpin %t: a packet to the neighbour's outside address arrives %t", s.options.Hairpin, ok)
		} else if ok && src != p.Mapped()[0] {
			t.Errorf("the hairpin shows %s, want the outside address %s", src, p.Mapped()[0])
		}
	}
	p := pairOf(t, flat.Node(1), hairpin.Node(1))
	if o := p.Punch(5*time.Second, together); !o.Direct() {
		t.Errorf("homes with the same addresses: %s", o)
	} else if o.Reached[0].Addr() != hairpin.Outside() || o.Reached[1].Addr() != flat.Outside() {
		t.Errorf("homes with the same addresses answer from %v", o.Reached)
	}
}

// Two nodes with one port behind one NAT: Linux by itself gives the second one
// a mapping for each destination; the strict kinds do not.
func TestSamePort(t *testing.T) {
	t.Parallel()
	l := New(t)
	for _, k := range []Kind{PortRestricted, FullCone, AddrRestricted, StrictPortRestricted} {
		s := l.Site(k, Options{Nodes: 2})
		var seen [2][2]netip.AddrPort
		for i, n := range s.Nodes() {
			c, err := n.ListenUDP("udp4", 51820)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			// The first node speaks to one server; its port is free towards the
			// other, which the second node speaks to first.
			for j := i; j >= 0; j-- {
				server := l.STUN()[j]
				if seen[i][j], err = askSTUN(c, server, 0); err != nil {
					t.Fatalf("%s: %v", k, err)
				}
			}
		}
		if seen[0][0] == seen[1][0] {
			t.Errorf("%s: both nodes are %s", k, seen[0][0])
		}
		if independent := seen[1][0] == seen[1][1]; independent != k.strict() {
			t.Errorf("%s: the second node is %v", k, seen[1])
		}
	}
}
