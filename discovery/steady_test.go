package discovery

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"nexd/key"
	"nexd/test/simnet"
)

// TestServerThatAnswersNowAndThen: a STUN server that comes and goes, and says what
// the other says, is no reason to begin the search for a path anew.
func TestServerThatAnswersNowAndThen(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.at("203.0.113.1", portRestricted), w.at("203.0.113.2", portRestricted)
		w.setRelay(1, true, true)
		began := time.Now()
		w.net.Filter(func(p simnet.Packet) bool {
			switch p.From.Addr().String() {
			case "198.51.100.2":
				return time.Since(began)%time.Minute < time.Minute/2
			case "198.51.100.1":
				return true
			}
			return p.To.Port() == 3478 // nothing goes straight
		})
		time.Sleep(2 * time.Second)
		a.agent.Want(b.pub)
		converse(a, b, 2*time.Minute)
		first, _ := a.agent.Report(t.Context(), b.pub)
		converse(a, b, 10*time.Minute)
		last, _ := a.agent.Report(t.Context(), b.pub)
		if last.State == Direct || len(a.agent.NAT().Mapped) != 1 {
			t.Fatalf("%+v, NAT %+v", last, a.agent.NAT())
		}
		if last.Rounds <= first.Rounds || last.Rounds > first.Rounds+4 {
			t.Errorf("%d rounds after two minutes, %d after twelve", first.Rounds, last.Rounds)
		}
	})
}

// TestNewestWordOfRelays: where the service says that a peer is now replaces what
// its last offer said.
func TestNewestWordOfRelays(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.at("203.0.113.1", symmetric), w.at("203.0.113.2", symmetric)
		w.setRelay(2, true, true)
		time.Sleep(2 * time.Second)
		a.agent.Want(b.pub)
		time.Sleep(2 * time.Second)
		if r, _ := a.agent.Report(t.Context(), b.pub); !slices.Equal(r.Relays, []uint16{2}) {
			t.Fatalf("its offer says %v", r.Relays)
		}
		w.setRelay(1, true, true)
		a.agent.SetPeers([]Peer{{Key: b.pub, Relays: []uint16{1}}})
		time.Sleep(time.Second)
		r, _ := a.agent.Report(t.Context(), b.pub)
		if !slices.Equal(r.Relays, []uint16{1}) {
			t.Errorf("its relays are %v", r.Relays)
		}
	})
}

// TestNearIsOfTheNetworkOfNow: an address next door to the network that was left
// is none now, and is checked no sooner and no oftener than others.
func TestNearIsOfTheNetworkOfNow(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a, b := w.at("203.0.113.1", symmetric), w.at("203.0.113.2", symmetric)
		a.setAddrs("10.0.0.1:51000")
		time.Sleep(3 * time.Second)
		a.agent.HandleSignal(b.pub, offerTo(t, b, a, offer{Epoch: 5, Seq: 1, Candidates: []candidate{
			{Addr: netip.MustParseAddrPort("10.0.0.2:51000"), Kind: host}, {Addr: netip.MustParseAddrPort("10.0.1.2:51000"), Kind: host},
		}}))
		near := func() (list []string) {
			done := make(chan struct{})
			a.agent.questions <- func() {
				for _, x := range a.agent.peers[b.pub].machine.targets {
					if x.near {
						list = append(list, x.Addr.String())
					}
				}
				close(done)
			}
			<-done
			return list
		}
		time.Sleep(time.Second)
		if got := near(); !slices.Equal(got, []string{"10.0.0.2:51000"}) {
			t.Errorf("near at first: %v", got)
		}
		a.setAddrs("10.0.1.1:51000")
		time.Sleep(3 * time.Second)
		if got := near(); !slices.Equal(got, []string{"10.0.1.2:51000"}) {
			t.Errorf("near in the other network: %v", got)
		}
	})
}

// TestHintsOfTheFuture: what was kept while the clock was ahead gives way like all else.
func TestHintsOfTheFuture(t *testing.T) {
	now := time.Now()
	var kept []Hint
	for range maxHints {
		kept = append(kept, Hint{key.NewPrivate().Public(), []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:1")}, now.Add(24 * time.Hour)})
	}
	book := newHintBook(kept)
	peer := key.NewPrivate().Public()
	book.put(Hint{peer, []netip.AddrPort{netip.MustParseAddrPort("192.0.2.2:1")}, now.Add(time.Minute)})
	if len(book.addrs(peer)) == 0 {
		t.Error("where a peer is reached now is not kept")
	}
}
