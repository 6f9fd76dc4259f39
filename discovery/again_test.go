package discovery

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"nexd/internal/stunwire"
	"nexd/test/simnet"
)

// TestMemberComesBackToOneSide: a member that only this node forgot for a while
// takes its checks and offers as new, not as replays of those before.
func TestMemberComesBackToOneSide(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", public)
		b := w.at("203.0.113.2", public)
		time.Sleep(time.Second)
		a.agent.Want(b.pub)
		a.direct(b, 5*time.Second)
		b.direct(a, 5*time.Second)
		converse(a, b, 5*time.Minute)
		before := b.agent.Stats().Replayed
		a.agent.SetPeers(nil)
		time.Sleep(time.Second)
		a.agent.SetPeers([]Peer{{Key: a.pub}, {Key: b.pub}})
		a.agent.Want(b.pub)
		a.direct(b, 5*time.Second)
		if n := b.agent.Stats().Replayed - before; n > 0 {
			t.Errorf("%d of its checks and offers taken for replays", n)
		}
	})
}

// TestServersReplacedWhileResolved: the names given last are those in use, though
// others were just being resolved.
func TestServersReplacedWhileResolved(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		old, next := netip.MustParseAddrPort(w.stun[0]), netip.MustParseAddrPort(w.stun[1])
		a := w.at("203.0.113.1", portRestricted)
		time.Sleep(time.Second)
		a.agent.questions <- func() { // its goroutine has the lookups
			a.agent.lookup = func(_ context.Context, name string) []netip.AddrPort {
				if name == "old" {
					time.Sleep(3 * time.Second)
					return []netip.AddrPort{old}
				}
				return []netip.AddrPort{next}
			}
		}
		a.agent.SetSTUN([]string{"old"})
		time.Sleep(time.Second)
		a.agent.SetSTUN([]string{"next"})
		time.Sleep(30 * time.Second)
		o, _ := a.agent.Outlook(t.Context())
		if len(o.Servers) != 1 || o.Servers[0].Addr != next {
			t.Errorf("servers in use: %+v", o.Servers)
		}
	})
}

// TestAnswersOfThePathCount: however many checks go to addresses that do not
// answer, the answer of the path that carries the data is waited for.
func TestAnswersOfThePathCount(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.at("203.0.113.1", symmetric), w.at("203.0.113.2", symmetric)
		w.setRelay(1, true, true)
		// Both have the networks of many containers, all of the same numbers.
		var of [2][]string
		for i := range maxCandidates - 2 {
			of[0] = append(of[0], fmt.Sprintf("10.0.%d.1:51000", i))
			of[1] = append(of[1], fmt.Sprintf("10.0.%d.2:51000", i))
		}
		a.setAddrs(of[0]...)
		b.setAddrs(of[1]...)
		w.net.SetDelay(250 * time.Millisecond) // 1 s through the relay and back
		time.Sleep(10 * time.Second)
		before := a.agent.Stats().Unverified
		a.agent.Want(b.pub)
		converse(a, b, 10*time.Second)
		if n := a.agent.Stats().Unverified - before; n > 0 {
			t.Errorf("%d answers came for checks that were forgotten", n)
		}
		if r, _ := a.agent.Report(t.Context(), b.pub); len(r.Candidates) < maxCandidates-2 || r.State == Direct || r.Candidates[0].Answers == 0 {
			t.Errorf("%+v", r)
		}
	})
}

// TestAnswersInTime: an answer that somebody kept for long is none.
func TestAnswersInTime(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", public)
		b := w.at("203.0.113.2", public)
		var mu sync.Mutex
		var kept []simnet.Packet
		own := a.host.Addr()
		w.net.Filter(func(p simnet.Packet) bool {
			m, err := stunwire.Parse(p.Data)
			if err != nil || !m.HasIntegrity() {
				return true
			}
			if m.Class == stunwire.Success && p.To == own {
				mu.Lock()
				kept = append(kept, p)
				mu.Unlock()
			}
			return m.Class != stunwire.Success
		})
		time.Sleep(time.Second)
		a.agent.Want(b.pub)
		time.Sleep(time.Hour)
		w.net.Filter(func(p simnet.Packet) bool { return p.From.Port() == 51000 && p.To == own })
		mu.Lock()
		defer mu.Unlock()
		if len(kept) == 0 {
			t.Fatal("nothing was answered")
		}
		for _, p := range kept {
			w.net.Inject(p)
		}
		time.Sleep(time.Second)
		if got := a.agent.Peer(b.pub); got.State == Direct {
			t.Errorf("%+v by an answer an hour old", got)
		}
	})
}

// TestPeerThatFindsAllStale: a member that calls each check stale, each time by a
// later epoch, gets no more of them for that than one whose clock went back.
func TestPeerThatFindsAllStale(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", public)
		b := w.at("203.0.113.2", public)
		time.Sleep(time.Second)
		b.stop()
		s, err := newSecrets(b.private, b.pub, a.pub)
		if err != nil {
			t.Fatal(err)
		}
		var liar *simnet.Host
		liar = w.net.NewSite("203.0.113.3", public).NewHost("203.0.113.3:51000", func(c []byte, from netip.AddrPort) {
			if m, err := stunwire.Parse(c); err == nil {
				liar.Send(stunwire.AppendCheckStale(nil, m.ID, m.Epoch+1, &s.check), from)
			}
		})
		before := a.agent.Stats().Checks
		a.agent.HandleSignal(b.pub, offerTo(t, b, a, offer{Epoch: 5, Seq: 1, Candidates: []candidate{{Addr: liar.Addr(), Kind: host}}}))
		const d = 10 * time.Second
		time.Sleep(d)
		if n := a.agent.Stats().Checks - before; n > uint64(3*len(burst)) {
			t.Errorf("%d checks in %s", n, d)
		}
	})
}
