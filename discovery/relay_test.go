package discovery

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"nexd/internal/relaypath"
	"nexd/test/simnet"
)

// TestRelayAtOnce: data flows through the relay one trip after it is wanted,
// whatever the NATs, and straight as soon as that is proved.
func TestRelayAtOnce(t *testing.T) {
	for _, x := range []struct {
		name   string
		a, b   simnet.NAT
		loss   float64
		direct bool
	}{
		{"symmetric × symmetric", symmetric, symmetric, 0, false},
		{"symmetric × port restricted", symmetric, portRestricted, 0, false},
		{"port restricted × port restricted", portRestricted, portRestricted, 0, true},
		{"port restricted × port restricted, 5 % loss", portRestricted, portRestricted, 0.05, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				a, b := w.at("203.0.113.1", x.a), w.at("203.0.113.2", x.b)
				w.setRelay(1, true, true)
				w.net.SetLoss(x.loss)
				time.Sleep(2 * time.Second) // warm
				began := time.Now()
				a.agent.Want(b.pub)
				converse(a, b, 100*time.Millisecond)
				if !a.path(b).IsValid() || !b.path(a).IsValid() {
					t.Fatalf("no path after 100 ms: %+v, %+v", a.agent.Peer(b.pub), b.agent.Peer(a.pub))
				}
				if !x.direct {
					converse(a, b, 10*time.Minute)
					if got := a.agent.Peer(b.pub); got.State == Direct || relaypath.Number(got.Addr) != 1 {
						t.Errorf("%+v", got)
					}
					if gap := a.resetGap(); gap > 100*time.Millisecond {
						t.Errorf("silence of %s on a relay", gap)
					}
					if n := a.agent.Stats().Checks; n > 1000 {
						t.Errorf("%d checks in ten minutes", n)
					}
					return
				}
				go converse(a, b, 10*time.Second)
				a.direct(b, 5*time.Second)
				b.direct(a, 5*time.Second)
				t.Logf("direct after %s", time.Since(began))
				time.Sleep(11 * time.Second)
			})
		})
	}
}

// TestSilentDeath: the direct path falls silent under traffic. Packets take the
// relay as well before the path is given up, and go straight again once it is back.
func TestSilentDeath(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		site := w.net.NewSite("203.0.113.1", portRestricted)
		a := w.node(site, "192.168.1.10:51000")
		b := w.at("203.0.113.2", portRestricted)
		w.setRelay(1, true, true)
		time.Sleep(2 * time.Second)
		for i := range 8 {
			a.agent.Want(b.pub)
			a.direct(b, 5*time.Second)
			converse(a, b, 5*time.Second)
			a.resetGap()
			b.resetGap()
			site.Block(true)
			converse(a, b, time.Duration(4+i)*time.Second+time.Duration(i)*13*time.Millisecond)
			if gap := max(a.resetGap(), b.resetGap()); gap > 900*time.Millisecond {
				t.Errorf("silence of %s", gap)
			} else {
				t.Logf("silence of %s", gap)
			}
			if got := a.agent.Peer(b.pub); relaypath.Number(got.Addr) != 1 {
				t.Errorf("not relayed: %+v", got)
			}
			site.Block(false)
			go converse(a, b, 12*time.Second)
			took := max(a.direct(b, 10*time.Second), b.direct(a, 10*time.Second))
			t.Logf("direct %s after the return", took)
			time.Sleep(13 * time.Second)
			if gap := max(a.resetGap(), b.resetGap()); gap > 300*time.Millisecond {
				t.Errorf("silence of %s on the way back", gap)
			}
		}
	})
}

// TestRelayDies: the relay in use ends, with and without anybody noticing.
func TestRelayDies(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprint("known=", known), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				a, b := w.at("203.0.113.1", symmetric), w.at("203.0.113.2", symmetric)
				w.setRelay(1, true, true)
				w.setRelay(2, true, true)
				time.Sleep(2 * time.Second)
				a.agent.Want(b.pub)
				converse(a, b, 5*time.Second)
				used := relaypath.Number(a.path(b))
				a.resetGap()
				b.resetGap()
				w.setRelay(used, false, known)
				converse(a, b, 10*time.Second)
				if gap := max(a.resetGap(), b.resetGap()); gap > 2*time.Second || known && gap > 200*time.Millisecond {
					t.Errorf("silence of %s", gap)
				} else {
					t.Logf("silence of %s", gap)
				}
				if now := relaypath.Number(a.path(b)); now == 0 || now == used {
					t.Errorf("relay %d before, %d now", used, now)
				}
				w.setRelay(used, true, true)
				w.setRelay(3-used, false, known)
				a.resetGap()
				b.resetGap()
				converse(a, b, 10*time.Second)
				if gap := max(a.resetGap(), b.resetGap()); gap > 2*time.Second {
					t.Errorf("silence of %s when the other died", gap)
				}
			})
		})
	}
}

// TestAbsentAtRelay: the relay says that the peer is not there; another has it.
func TestAbsentAtRelay(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.at("203.0.113.1", symmetric), w.at("203.0.113.2", symmetric)
		w.setRelay(1, true, true)
		w.setRelay(2, true, true)
		time.Sleep(time.Second)
		go a.talk(b, 3*time.Second)
		time.Sleep(20 * time.Millisecond)
		before := relaypath.Number(a.path(b))
		a.agent.Presence(before, b.pub, false)
		time.Sleep(time.Millisecond)
		if now := relaypath.Number(a.path(b)); now != 3-before {
			t.Errorf("relay %d, told that the peer is not at %d", now, before)
		}
		a.agent.Presence(42, b.pub, false)
		a.agent.Presence(before, a.pub, true)
		time.Sleep(4 * time.Second)
	})
}

// TestUnknownRelays: nothing is sent through a relay without a session, and
// what claims to be one in an offer is no address.
func TestUnknownRelays(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.at("203.0.113.1", symmetric), w.at("203.0.113.2", symmetric)
		w.setRelay(7, false, true)
		time.Sleep(time.Second)
		a.agent.HandleSignal(b.pub, offerTo(t, b, a, offer{WantReply: true, Epoch: 1 << 62, Seq: 1, Candidates: []candidate{
			{Addr: relaypath.Addr(7), Kind: host}, {Addr: netip.MustParseAddrPort("[100::99]:9"), Kind: relayed},
		}}))
		a.talk(b, time.Second)
		if got := a.path(b); got.IsValid() {
			t.Errorf("path %s", got)
		}
		if st := a.agent.Stats(); st.Failed > 0 {
			t.Errorf("%+v", st)
		}
	})
}

// TestLossWithRelay: ten minutes at 5 % loss each way. No path is given up, and
// hardly a packet goes twice.
func TestLossWithRelay(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.at("203.0.113.1", portRestricted), w.at("203.0.113.2", portRestricted)
		w.setRelay(1, true, true)
		w.net.SetLoss(0.05)
		time.Sleep(2 * time.Second)
		a.agent.Want(b.pub)
		a.direct(b, 10*time.Second)
		b.direct(a, 10*time.Second)
		before := a.changes + b.changes
		converse(a, b, 10*time.Minute)
		if n := a.changes + b.changes - before; n > 0 {
			t.Errorf("%d changes of path", n)
		}
		if sent := 2 * 10 * 60 * 50; (a.doubled+b.doubled)*100 > sent {
			t.Errorf("%d of %d packets went twice", a.doubled+b.doubled, sent)
		} else {
			t.Logf("%d of %d packets went twice", a.doubled+b.doubled, sent)
		}
	})
}

// TestHundredActivePeers: checks of a hundred paths in use stay below 60 a second.
func TestHundredActivePeers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		center := w.at("203.0.113.1", portRestricted)
		var peers []*simNode
		for i := range 100 {
			ip := netip.AddrFrom4([4]byte{198, 18, 0, byte(i + 1)})
			peers = append(peers, w.node(w.net.NewSite(ip.String(), portRestricted), ip.String()+":51000"))
		}
		w.setRelay(1, true, true)
		time.Sleep(2 * time.Second)
		for _, p := range peers {
			center.agent.Want(p.pub)
		}
		var all sync.WaitGroup
		for _, p := range peers {
			all.Go(func() { converse(center, p, time.Minute+30*time.Second) })
		}
		time.Sleep(30 * time.Second)
		for _, p := range peers {
			if got := center.agent.Peer(p.pub); got.State != Direct {
				t.Fatalf("%+v", got)
			}
		}
		before := center.agent.Stats().Checks
		time.Sleep(time.Minute)
		if rate := float64(center.agent.Stats().Checks-before) / 60; rate >= 60 {
			t.Errorf("%.1f checks a second", rate)
		} else {
			t.Logf("%.1f checks a second", rate)
		}
		all.Wait()
	})
}
