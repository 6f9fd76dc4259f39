package discovery

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"nexd/internal/stunwire"
	"nexd/key"
	"nexd/test/simnet"
)

// TestManyPeersAskAtOnce: members whose checks use up the budget of answers do
// not keep others from those that hold their paths.
func TestManyPeersAskAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", public)
		b := w.at("203.0.113.2", public)
		members := []Peer{{Key: b.pub}}
		var floods []*secrets
		for range 2 * answersInAll / answersPerPeer {
			private := key.NewPrivate()
			s, err := newSecrets(private, private.Public(), a.pub)
			if err != nil {
				t.Fatal(err)
			}
			floods, members = append(floods, s), append(members, Peer{Key: private.Public()})
		}
		a.agent.SetPeers(members)
		time.Sleep(2 * time.Second)
		b.agent.Want(a.pub)
		b.direct(a, 5*time.Second)
		go b.talk(a, 20*time.Second)
		time.Sleep(5 * time.Second)
		before, limited := pathReport(t, b, a), a.agent.Stats().Limited
		for i := range 200 {
			for n, s := range floods {
				c := stunwire.Check{ID: stunwire.NewTxID(), Hint: s.hintOut, Epoch: 7, Seq: uint64(i + 1)}
				from := netip.MustParseAddrPort(fmt.Sprintf("203.0.113.%d:7", 100+n))
				w.net.Inject(simnet.Packet{From: from, To: a.host.Addr(), Data: stunwire.AppendCheck(nil, c, &s.check)})
				time.Sleep(2500 * time.Microsecond)
			}
		}
		after := pathReport(t, b, a)
		if a.agent.Stats().Limited == limited {
			t.Error("the budget was not used up")
		}
		asked, answered := after.Checks-before.Checks, after.Answers-before.Answers
		if asked < 3 || answered < asked-1 {
			t.Errorf("%d of %d checks of the path were answered", answered, asked)
		}
		time.Sleep(10 * time.Second)
	})
}

// pathReport is what n knows of its path to the peer.
func pathReport(t *testing.T, n, peer *simNode) CandidateReport {
	t.Helper()
	r, ok := n.agent.Report(t.Context(), peer.pub)
	if !ok || len(r.Candidates) == 0 || r.Candidates[0].Addr != r.Addr {
		t.Errorf("no path: %+v", r)
		return CandidateReport{}
	}
	return r.Candidates[0]
}

// TestPathHeldSince: rounds of a search for a better path do not change since when
// the present one is used.
func TestPathHeldSince(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.at("203.0.113.1", symmetric), w.at("203.0.113.2", symmetric)
		w.setRelay(1, true, true)
		time.Sleep(2 * time.Second)
		a.agent.Want(b.pub)
		converse(a, b, time.Second)
		first := a.agent.Peer(b.pub)
		converse(a, b, 5*time.Minute)
		last := a.agent.Peer(b.pub)
		if !first.Addr.IsValid() || last.Addr != first.Addr {
			t.Fatalf("%+v, then %+v", first, last)
		}
		if first.Held.IsZero() || !last.Held.Equal(first.Held) {
			t.Errorf("one path, used since %s and since %s", first.Held, last.Held)
		}
	})
}
