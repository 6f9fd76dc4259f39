package discovery

import (
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nexd/test/simnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestPairsOfNATs: who can be direct is direct, soon, from either side.
func TestPairsOfNATs(t *testing.T) {
	for _, pair := range []struct {
		name string
		a, b simnet.NAT
		kind string // of a
	}{
		{"public × public", public, public, NATOpen},
		{"full cone × port restricted", fullCone, portRestricted, NATEasy},
		{"port restricted × port restricted", portRestricted, portRestricted, NATEasy},
		{"symmetric × public", symmetric, public, NATHard},
		{"symmetric × full cone", symmetric, fullCone, NATHard},
		{"firewall × port restricted", firewall, portRestricted, NATOpen},
		{"firewall × firewall", firewall, firewall, NATOpen},
	} {
		for _, swap := range []bool{false, true} {
			name := pair.name
			if swap {
				name += ", other side starts"
			}
			t.Run(name, func(t *testing.T) {
				inWorld(t, func(t *testing.T, w *world) {
					a := w.at("203.0.113.1", pair.a)
					b := w.at("203.0.113.2", pair.b)
					time.Sleep(2 * time.Second) // warm
					first, second := a, b
					if swap {
						first, second = b, a
					}
					first.agent.Want(second.pub)
					if took := first.direct(second, 5*time.Second); took > 500*time.Millisecond {
						t.Errorf("direct after %s", took)
					}
					second.direct(first, time.Second)
					if got := a.agent.NAT(); got.Kind != pair.kind || !got.UDP {
						t.Errorf("NAT %+v, want %s", got, pair.kind)
					}
					a.resetGap()
					converse(a, b, 10*time.Second)
					if gap := a.resetGap(); gap > 100*time.Millisecond {
						t.Errorf("silence of %s on a good path", gap)
					}
				})
			})
		}
	}
}

// at puts a node at a site of its own: public, or behind the NAT.
func (w *world) at(ip string, nat simnet.NAT, options ...option) *simNode {
	site := w.net.NewSite(ip, nat)
	if nat.Public {
		return w.node(site, ip+":51000", options...)
	}
	last := netip.MustParseAddr(ip).As4()[3]
	inside := netip.AddrFrom4([4]byte{192, 168, last, 10})
	return w.node(site, inside.String()+":51000", options...)
}

func TestColdStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", portRestricted)
		b := w.at("203.0.113.2", portRestricted)
		a.agent.Want(b.pub)
		if took := a.direct(b, 5*time.Second); took > time.Second {
			t.Errorf("direct after %s", took)
		}
	})
}

func TestSameLAN(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		site := w.net.NewSite("203.0.113.1", symmetric)
		a := w.node(site, "192.168.1.10:51000")
		b := w.node(site, "192.168.1.11:51001")
		time.Sleep(2 * time.Second)
		a.agent.Want(b.pub)
		if took := a.direct(b, time.Second); took > 100*time.Millisecond {
			t.Errorf("direct after %s", took)
		}
		if got := a.agent.Peer(b.pub).Addr.String(); got != "192.168.1.11:51001" {
			t.Errorf("path %s", got)
		}
	})
}

func TestSTUNBlocked(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		site := w.net.NewSite("203.0.113.1", portRestricted)
		site.Block(true)
		a := w.node(site, "192.168.1.10:51000")
		time.Sleep(3 * time.Second)
		if got := a.agent.NAT(); got.Kind != NATBlocked || got.UDP {
			t.Errorf("NAT %+v", got)
		}
	})
}

func TestPathDiesAndReturns(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		site := w.net.NewSite("203.0.113.1", portRestricted)
		a := w.node(site, "192.168.1.10:51000")
		b := w.at("203.0.113.2", portRestricted)
		time.Sleep(2 * time.Second)
		a.agent.Want(b.pub)
		a.direct(b, 5*time.Second)
		converse(a, b, 3*time.Second)
		site.Block(true)
		converse(a, b, 4*time.Second)
		if got := a.agent.Peer(b.pub); got.Addr.IsValid() {
			t.Errorf("a dead path is kept: %+v", got)
		}
		site.Block(false)
		began := time.Now()
		go converse(a, b, 20*time.Second)
		took := a.direct(b, 12*time.Second)
		b.direct(a, time.Second)
		t.Logf("direct %s after the return", took)
		time.Sleep(25*time.Second - time.Since(began))
	})
}

func TestRebindUnderTraffic(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		site := w.net.NewSite("203.0.113.1", portRestricted)
		a := w.node(site, "192.168.1.10:51000")
		b := w.at("203.0.113.2", fullCone)
		time.Sleep(2 * time.Second)
		a.agent.Want(b.pub)
		a.direct(b, 5*time.Second)
		converse(a, b, 5*time.Second)
		a.resetGap()
		site.Rebind()
		converse(a, b, 8*time.Second)
		gap := a.resetGap()
		if gap > time.Second {
			t.Errorf("silence of %s after a rebind", gap)
		}
		t.Logf("silence of %s", gap)
	})
}

// TestRoam: a moves to another network; both port restricted.
func TestRoam(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", portRestricted)
		b := w.at("203.0.113.2", portRestricted)
		other := w.net.NewSite("203.0.113.3", portRestricted)
		time.Sleep(2 * time.Second)
		a.agent.Want(b.pub)
		a.direct(b, 5*time.Second)
		converse(a, b, 5*time.Second)
		a.resetGap()
		a.host.Move(other, "10.1.1.7:51000")
		a.setAddrs("10.1.1.7:51000")
		converse(a, b, 10*time.Second)
		gap := a.resetGap()
		if gap > 3500*time.Millisecond || gap == 0 {
			t.Errorf("silence of %s after roaming", gap)
		}
		t.Logf("silence of %s", gap)
	})
}

// TestLateStart: the peer is not there at first.
func TestLateStart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", portRestricted)
		b := w.at("203.0.113.2", portRestricted)
		b.stop()
		<-b.done
		go a.talk(b, time.Minute)
		time.Sleep(8 * time.Second)
		b.start()
		took := a.direct(b, time.Minute)
		t.Logf("direct %s after the peer's start", took)
		time.Sleep(time.Minute)
	})
}

func TestLossDoesNotEndAPath(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", portRestricted)
		b := w.at("203.0.113.2", portRestricted)
		w.net.SetLoss(0.05)
		time.Sleep(2 * time.Second)
		a.agent.Want(b.pub)
		a.direct(b, 10*time.Second)
		b.direct(a, 10*time.Second)
		converse(a, b, 10*time.Minute)
		if a.drops+b.drops > 0 {
			t.Errorf("paths were given up %d and %d times", a.drops, b.drops)
		}
		t.Logf("changes %d and %d; %+v", a.changes, b.changes, a.agent.Stats())
	})
}

// TestIdlePeersAreSilent: nothing is sent for members nobody talks to, and
// nothing ten minutes after the last talk.
func TestIdlePeersAreSilent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		site := w.net.NewSite("203.0.113.1", portRestricted)
		var nodes []*simNode
		for i := range 20 {
			nodes = append(nodes, w.node(site, netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 168, 1, byte(10 + i)}), 51000).String()))
		}
		time.Sleep(5 * time.Second)
		before := w.net.Sent()
		time.Sleep(time.Hour)
		if n := w.net.Sent() - before; n > 0 {
			t.Errorf("%d packets in an idle hour", n)
		}
		nodes[0].agent.Want(nodes[1].pub)
		nodes[0].direct(nodes[1], 5*time.Second)
		converse(nodes[0], nodes[1], 5*time.Second)
		time.Sleep(12 * time.Minute)
		before = w.net.Sent()
		time.Sleep(time.Hour)
		if n := w.net.Sent() - before; n > 0 {
			t.Errorf("%d packets in an hour after a talk", n)
		}
		if got := nodes[0].agent.Peer(nodes[1].pub).State; got != Idle {
			t.Errorf("state %s", got)
		}
	})
}

// TestRestartWithoutService: both restart while the service is away, and find
// each other at the addresses they remember.
func TestRestartWithoutService(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", portRestricted)
		b := w.at("203.0.113.2", portRestricted)
		time.Sleep(2 * time.Second)
		a.agent.Want(b.pub)
		a.direct(b, 5*time.Second)
		converse(a, b, 15*time.Second)
		for _, n := range []*simNode{a, b} {
			n.stop()
			<-n.done
		}
		if len(a.hints) != 1 || len(b.hints) != 1 {
			t.Fatalf("hints %v and %v", a.hints, b.hints)
		}
		w.serviceDown(true)
		time.Sleep(5 * time.Minute)
		a.start(func(c *Config) { c.Hints = a.hints })
		b.start(func(c *Config) { c.Hints = b.hints })
		go converse(a, b, 20*time.Second)
		took := a.direct(b, 20*time.Second)
		b.direct(a, 5*time.Second)
		t.Logf("direct after %s", took)
		time.Sleep(25 * time.Second)
	})
}
