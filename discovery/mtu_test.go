package discovery

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"nexd/internal/stunwire"
	"nexd/key"
	"nexd/test/simnet"
)

func (n *simNode) setMTU(peer key.Public, mtu int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.mtus[peer] = append(n.mtus[peer], mtuAt{mtu, time.Now()})
}

// mtu is what the agent last told of a peer.
func (n *simNode) mtu(peer *simNode) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	all := n.mtus[peer.pub]
	if len(all) == 0 {
		return 0
	}
	return all[len(all)-1].mtu
}

// toldSince are the sizes told since then.
func (n *simNode) toldSince(peer *simNode, since time.Time) (sizes []int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.mtus[peer.pub] {
		if x.at.After(since) {
			sizes = append(sizes, x.mtu)
		}
	}
	return sizes
}

// bulk is pour at a hundred packets a second.
func bulk(a, b *simNode, d time.Duration) (lost int) { return pour(a, b, 10*time.Millisecond, d) }

// pour sends the largest packets it may for d, one each, and returns how many did
// not arrive though the path was not cut. The other side acknowledges each
// that comes, as TCP would.
func pour(a, b *simNode, each, d time.Duration) (lost int) {
	var arrived atomic.Int64
	b.mu.Lock()
	b.onData = func(from key.Public) {
		if from == a.pub {
			arrived.Add(1)
			ack := append([]byte{4, 0, 0, 0}, b.pub.Bytes()...)
			b.mu.Lock()
			to := b.paths[a.pub].path
			b.sent[a.pub] = time.Now()
			b.mu.Unlock()
			b.send(a.pub, ack, to)
		}
	}
	b.mu.Unlock()
	sent := 0
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(each) {
		size := max(a.mtu(b), baseMTU)
		data := make([]byte, size+sealedBy)
		copy(data, append([]byte{4, 0, 0, 0}, a.pub.Bytes()...))
		a.mu.Lock()
		to := a.paths[b.pub]
		if to.path.IsValid() {
			a.sent[b.pub] = time.Now()
			if size > baseMTU {
				a.large[b.pub] = time.Now()
			}
		}
		a.mu.Unlock()
		if !to.path.IsValid() {
			a.agent.Want(b.pub)
			continue
		}
		sent++
		a.send(b.pub, data, to.path)
	}
	time.Sleep(100 * time.Millisecond)
	return sent - int(arrived.Load())
}

// carries limits what passes between sites to IP packets of a size; it may be
// changed at any time.
func (w *world) carries(mtu int) *atomic.Int64 {
	limit := new(atomic.Int64)
	limit.Store(int64(mtu))
	w.net.Filter(func(p simnet.Packet) bool {
		headers := int64(sizeUDP4)
		if p.To.Addr().Is6() {
			headers += 20
		}
		return int64(len(p.Data))+headers <= limit.Load()
	})
	return limit
}

// TestSizeOfPaths: each path is found to carry what it carries, on most within a
// round trip.
func TestSizeOfPaths(t *testing.T) {
	for _, x := range []struct {
		path, want int
		soon       bool // within two round trips of the path
		link       int  // the MTU of the own interface, if it is known
		v6         bool
	}{
		{path: 65536, want: 8920, soon: true},
		{path: 9000, want: 8920, soon: true},
		{path: 9000, want: 8920, soon: true, v6: true},
		{path: 8500, want: 8432},
		{path: 1500, want: 1440, soon: true},
		{path: 1500, want: 1440, soon: true, link: 1500},
		{path: 1500, want: 1408, soon: true, v6: true},
		{path: 1492, want: 1424, link: 1500},
		{path: 1492, want: 1424, link: 1492},
		{path: 1400, want: 1328},
		{path: 1400, want: 1328, link: 1400},
		{path: 1340, want: 1280},
	} {
		name := fmt.Sprintf("%d, interface %d", x.path, x.link)
		if x.v6 {
			name += ", IPv6"
		}
		t.Run(name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				w.carries(x.path)
				sites := [2]string{"203.0.113.1", "203.0.113.2"}
				if x.v6 {
					sites = [2]string{"2001:db8:1::1", "2001:db8:2::1"}
				}
				var nodes [2]*simNode
				for i, ip := range sites {
					site := w.net.NewSite(ip, public)
					nodes[i] = w.node(site, netip.AddrPortFrom(netip.MustParseAddr(ip), 51000).String())
					nodes[i].link = x.link
				}
				a, b := nodes[0], nodes[1]
				time.Sleep(2 * time.Second)
				a.agent.Want(b.pub)
				a.direct(b, 5*time.Second)
				began := time.Now()
				go converse(a, b, 20*time.Second)
				var took time.Duration
				for a.mtu(b) != x.want && time.Since(began) < 10*time.Second {
					time.Sleep(time.Millisecond)
				}
				took = time.Since(began)
				time.Sleep(10 * time.Second)
				if got := a.mtu(b); got != x.want {
					t.Errorf("packets of up to %d bytes, want %d", got, x.want)
				}
				if x.soon && took > 45*time.Millisecond {
					t.Errorf("found after %s", took)
				}
				s := a.agent.Stats()
				t.Logf("%d after %s, %d padded checks", a.mtu(b), took, s.Padded)
				if s.Padded > 32 {
					t.Errorf("%d padded checks", s.Padded)
				}
				if got := a.agent.Peer(b.pub); got.MTU != x.want || got.State != Direct {
					t.Errorf("%+v", got)
				}
				time.Sleep(11 * time.Second)
			})
		})
	}
}

// TestBlackHole: the middle of the path shrinks without a word while data flows.
// The packets become small enough soon, the path is not left, and the size does
// not flap: what did not pass is tried again after a minute, then after two.
func TestBlackHole(t *testing.T) {
	for _, loss := range []float64{0, 0.02} {
		t.Run(fmt.Sprintf("%.0f %% loss", 100*loss), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				limit := w.carries(9000)
				a, b := w.at("203.0.113.1", public), w.at("203.0.113.2", public)
				time.Sleep(2 * time.Second)
				bulk(a, b, 5*time.Second)
				if got := a.mtu(b); got != 8920 {
					t.Fatalf("packets of up to %d bytes", got)
				}
				drops, changes := a.drops, a.changes
				w.net.SetLoss(loss)
				limit.Store(1400)
				shrunk := time.Now()
				if n := bulk(a, b, 5*time.Second); loss == 0 && n > 100 {
					t.Errorf("%d packets of a hundred a second vanished", n)
				} else {
					t.Logf("%d packets vanished", n)
				}
				if got := a.mtu(b); got != 1328 {
					t.Errorf("packets of up to %d bytes, want 1328", got)
				}
				a.mu.Lock()
				for _, x := range a.mtus[b.pub] {
					if x.at.After(shrunk) {
						t.Logf("%d after %s", x.mtu, x.at.Sub(shrunk))
					}
				}
				a.mu.Unlock()
				bulk(a, b, 45*time.Second)
				limit.Store(9000)
				if got := a.mtu(b); got != 1328 {
					t.Errorf("packets of up to %d bytes before a minute is over", got)
				}
				bulk(a, b, 30*time.Second)
				if got := a.mtu(b); got != 8920 {
					t.Errorf("packets of up to %d bytes a minute later, want 8920 again", got)
				}
				limit.Store(1500)
				bulk(a, b, 10*time.Second)
				began := time.Now()
				bulk(a, b, 105*time.Second)
				if got := a.toldSince(b, began); len(got) > 0 && loss == 0 {
					t.Errorf("it flaps: %v", got)
				}
				limit.Store(9000)
				bulk(a, b, 30*time.Second)
				if got := a.mtu(b); got != 8920 {
					t.Errorf("packets of up to %d bytes two minutes later, want 8920 again", got)
				}
				if a.drops != drops || a.changes != changes {
					t.Error("the path was left")
				}
			})
		})
	}
}

// TestLossIsNoBlackHole: a path that loses one packet in twenty carries what it
// carried.
func TestLossIsNoBlackHole(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.carries(1500)
		a, b := w.at("203.0.113.1", public), w.at("203.0.113.2", public)
		time.Sleep(2 * time.Second)
		w.net.SetLoss(0.05)
		bulk(a, b, 10*time.Second)
		began := time.Now()
		bulk(a, b, 10*time.Minute)
		told := a.toldSince(b, began)
		if len(told) > 4 || a.mtu(b) != 1440 {
			t.Errorf("in ten minutes: %v", told)
		}
	})
}

// TestSlowPathIsNoBlackHole: what is late is not lost.
func TestSlowPathIsNoBlackHole(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.carries(1500)
		a, b := w.at("203.0.113.1", public), w.at("203.0.113.2", public)
		time.Sleep(2 * time.Second)
		bulk(a, b, 5*time.Second)
		began := time.Now()
		w.net.Delay = 700 * time.Millisecond // a queue filled up
		bulk(a, b, 30*time.Second)
		w.net.Delay = 10 * time.Millisecond
		bulk(a, b, 5*time.Second)
		for _, mtu := range a.toldSince(b, began) {
			if mtu < 1440 {
				t.Errorf("%v", a.toldSince(b, began))
			}
		}
		if got := a.mtu(b); got != 1440 {
			t.Errorf("packets of up to %d bytes", got)
		}
	})
}

// TestSizeCostsNothing: once it is found, small talk is not verified, and large
// packets are in place of the checks there are anyway; who is idle sends nothing.
func TestSizeCostsNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.carries(1500)
		a, b := w.at("203.0.113.1", public), w.at("203.0.113.2", public)
		time.Sleep(2 * time.Second)
		converse(a, b, 10*time.Second)
		before := a.agent.Stats()
		converse(a, b, 5*time.Minute)
		small := a.agent.Stats()
		if n := small.Padded - before.Padded; n > 0 {
			t.Errorf("%d padded checks with small talk", n)
		}
		bulk(a, b, 5*time.Minute)
		large := a.agent.Stats()
		t.Logf("checks in five minutes: %d with small packets, %d with large ones, %d of them padded",
			small.Checks-before.Checks, large.Checks-small.Checks, large.Padded-small.Padded)
		if more, less := large.Checks-small.Checks, small.Checks-before.Checks; more > less+less/10+10 {
			t.Errorf("%d checks with large packets, %d with small ones", more, less)
		}
		if n := large.Padded - small.Padded; n < 100 {
			t.Errorf("%d padded checks in five minutes of large packets", n)
		}
		time.Sleep(time.Minute)
		before = a.agent.Stats()
		time.Sleep(30 * time.Minute)
		if n := a.agent.Stats().Padded - before.Padded; n > 0 {
			t.Errorf("%d padded checks while idle", n)
		}
	})
}

// TestOlderPeer: it drops messages of that length and is reached as ever.
func TestOlderPeer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.net.Filter(func(p simnet.Packet) bool { return !stunwire.Is(p.Data) || len(p.Data) <= stunwire.MaxMessage })
		a, b := w.at("203.0.113.1", public), w.at("203.0.113.2", public)
		time.Sleep(2 * time.Second)
		bulk(a, b, 9*time.Minute)
		if got := a.agent.Peer(b.pub); got.State != Direct || got.MTU != baseMTU {
			t.Errorf("%+v", got)
		}
		if n := a.agent.Stats().Padded; n == 0 || n > 32 {
			t.Errorf("%d padded checks", n)
		}
		if a.drops > 0 || a.doubled > 0 {
			t.Errorf("the path was left %d times, %d packets took two ways", a.drops, a.doubled)
		}
	})
}

// TestSizeThroughRelay: a relay's frames have room for less, and a change of path
// begins with the least.
func TestSizeThroughRelay(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.carries(9000)
		a, b := w.at("203.0.113.1", portRestricted), w.at("203.0.113.2", portRestricted)
		a.host.Site().Block(true)
		w.setRelay(1, true, true)
		time.Sleep(2 * time.Second)
		converse(a, b, 5*time.Second)
		if got := a.mtu(b); got != maxRelayMTU {
			t.Errorf("packets of up to %d bytes through the relay", got)
		}
		a.host.Site().Block(false)
		converse(a, b, 2*time.Minute)
		if got := a.agent.Peer(b.pub); got.State != Direct || got.MTU != 8920 {
			t.Fatalf("%+v", got)
		}
		began := time.Now()
		a.host.Site().Block(true)
		converse(a, b, 10*time.Second)
		told := a.toldSince(b, began)
		if len(told) == 0 || told[0] != baseMTU || a.mtu(b) != maxRelayMTU {
			t.Errorf("packets of up to %v bytes", told)
		}
	})
}

// TestPinnedSize: nothing is looked for.
func TestPinnedSize(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		pinned := func(c *Config) { c.MaxMTU, c.OnMTU = 0, nil }
		a, b := w.at("203.0.113.1", public, pinned), w.at("203.0.113.2", public, pinned)
		time.Sleep(2 * time.Second)
		converse(a, b, 5*time.Second)
		if s := a.agent.Stats(); s.Padded > 0 || a.agent.Peer(b.pub).MTU != 0 {
			t.Errorf("%+v, %+v", s, a.agent.Peer(b.pub))
		}
	})
}

// TestHundredPeersWithLargePackets stays within the budget of checks, also at first.
func TestHundredPeersWithLargePackets(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		const peers = 100
		w.carries(1500)
		hub := w.at("203.0.113.1", public)
		hub.link = 1500
		var all []*simNode
		for i := range peers {
			all = append(all, w.at(fmt.Sprintf("198.18.%d.1", i), public))
		}
		time.Sleep(2 * time.Second)
		began := hub.agent.Stats().Padded
		for _, n := range all {
			go pour(hub, n, 200*time.Millisecond, 25*time.Second)
		}
		time.Sleep(10 * time.Second)
		before := hub.agent.Stats()
		time.Sleep(10 * time.Second)
		s := hub.agent.Stats()
		perSecond := float64(s.Checks-before.Checks) / 10
		t.Logf("%.1f checks a second, %d padded ones at first", perSecond, before.Padded-began)
		if perSecond >= 60 {
			t.Errorf("%.1f checks a second", perSecond)
		}
		for _, n := range all {
			if got := hub.mtu(n); got != 1440 {
				t.Errorf("packets of up to %d bytes", got)
			}
		}
		time.Sleep(6 * time.Second)
	})
}

// TestSizer: whatever a path carries, the largest size that fits is found, with
// no more than eight sizes asked for at a time and thirty tries in all, and found
// again after the path changed to anything else.
func TestSizer(t *testing.T) {
	fitting := func(path int) int {
		want := baseMTU
		for _, size := range rungs {
			if size <= path {
				want = size
			}
		}
		return want
	}
	now := time.Unix(1000, 0)
	const rtt, rto = 10 * time.Millisecond, 200 * time.Millisecond
	// settle has the path answer until nothing more is asked, and returns the tries.
	settle := func(s *sizer, path int) (tries int) {
		for range 1000 {
			sizes, small := s.due(now, rto)
			sizes = append(sizes, s.step(now)...)
			if len(s.open) == 0 && len(sizes) == 0 {
				return tries
			}
			if len(s.open) > 8 {
				t.Fatalf("%d sizes at a time", len(s.open))
			}
			tries += len(sizes)
			sent := now
			now = now.Add(rtt)
			for _, size := range sizes {
				if size <= path {
					s.answered(now, sent, size)
				}
			}
			if small {
				s.answered(now, sent, 0)
			}
			if at := s.next(rto); at.After(now) {
				now = at
			}
		}
		t.Fatalf("path of %d: no end", path)
		return 0
	}
	for path := 1270; path <= 9100; path += 10 {
		s := newSizer(topMTU)
		tries := settle(s, path)
		if s.mtu != fitting(path) || tries > 30 {
			t.Fatalf("path of %d: %d after %d tries, want %d", path, s.mtu, tries, fitting(path))
		}
		next := 1270 + (path*7919)%7800
		now = now.Add(time.Minute)
		if _, asked := s.verify(now); asked && next < s.mtu {
			settle(s, next)
			if s.mtu != fitting(next) {
				t.Fatalf("path of %d, then of %d: %d, want %d", path, next, s.mtu, fitting(next))
			}
		}
		now = now.Add(time.Hour)
		settle(s, 9100)
		if s.mtu != topMTU {
			t.Fatalf("path of %d, an hour later of 9100: %d", path, s.mtu)
		}
	}
}

// TestStuckStream: a stream of large packets stands still in a black hole, but for
// one more now and then, while small packets still come: that is asked after at once.
func TestStuckStream(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		limit := w.carries(9000)
		a, b := w.at("203.0.113.1", public), w.at("203.0.113.2", public)
		time.Sleep(2 * time.Second)
		go converse(a, b, 20*time.Second)
		bulk(a, b, 5300*time.Millisecond)
		limit.Store(1400)
		began := time.Now()
		for _, after := range []time.Duration{100, 200, 400, 800} { // as TCP does
			time.Sleep(after * time.Millisecond)
			pour(a, b, time.Millisecond, time.Millisecond)
		}
		a.mu.Lock()
		told := a.mtus[b.pub]
		a.mu.Unlock()
		for _, x := range told {
			if x.at.After(began) {
				t.Logf("%d after %s", x.mtu, x.at.Sub(began))
				if x.at.Sub(began) > 700*time.Millisecond {
					t.Error("that is late")
				}
			}
		}
		if got := a.mtu(b); got != 1328 {
			t.Errorf("packets of up to %d bytes", got)
		}
		time.Sleep(20 * time.Second)
	})
}
