package discovery

import (
	"fmt"
	"net/netip"
	"slices"
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
		pour(a, b, 40*time.Millisecond, 5*time.Minute)
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
		pour(a, b, 40*time.Millisecond, 9*time.Minute)
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

// TestSizeOutlivesMappings: a NAT that gives the next STUN request another port
// says nothing of what the paths carry; another network of the host's own does, for
// those that rest, too.
func TestSizeOutlivesMappings(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		limit := w.carries(1500)
		a, b := w.at("203.0.113.1", symmetric), w.at("203.0.113.2", public)
		time.Sleep(2 * time.Second)
		bulk(a, b, 5*time.Second)
		began, mapped := time.Now(), a.agent.NAT().Mapped
		pour(a, b, 40*time.Millisecond, 11*time.Minute)
		if slices.Equal(a.agent.NAT().Mapped, mapped) {
			t.Fatalf("the NAT has not changed its mind: %v", mapped)
		}
		if got := a.toldSince(b, began); len(got) > 0 {
			t.Errorf("packets of up to %v bytes", got)
		}
		limit.Store(9000)
		a.agent.NetworkChanged()
		bulk(a, b, 5*time.Second)
		if got := a.mtu(b); got != 8920 {
			t.Errorf("packets of up to %d bytes on another network", got)
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
