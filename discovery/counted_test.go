package discovery

import (
	"net/netip"
	"testing"
	"time"

	"nexd/key"
)

// TestChecksToldWereSent: what people are told of checks are those that went out,
// not those the budget held back for ever.
func TestChecksToldWereSent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", public)
		var members []Peer
		var offers [][]byte
		for n := range byte(40) {
			private := key.NewPrivate()
			x := &simNode{private: private, pub: private.Public()}
			o := offer{Epoch: 5, Seq: 1}
			for i := range byte(maxCandidates) {
				o.Candidates = append(o.Candidates, candidate{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{198, 18, n, i}), 9), Kind: host})
			}
			members, offers = append(members, Peer{Key: x.pub}), append(offers, offerTo(t, x, a, o))
		}
		a.agent.SetPeers(members)
		time.Sleep(2 * time.Second)
		for i, m := range members {
			a.agent.HandleSignal(m.Key, offers[i])
		}
		time.Sleep(10 * time.Second)
		told := 0
		for _, m := range members {
			r, _ := a.agent.Report(t.Context(), m.Key)
			for _, c := range r.Candidates {
				told += c.Checks
			}
		}
		if sent := int(a.agent.Stats().Checks); sent == 0 || told != sent {
			t.Errorf("%d checks told of, %d sent", told, sent)
		}
	})
}
