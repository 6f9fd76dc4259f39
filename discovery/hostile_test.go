package discovery

import (
	"bytes"
	"context"
	"encoding/binary"
	"math"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"nexd/controlapi"
	"nexd/internal/stunwire"
	"nexd/key"
	"nexd/test/simnet"
)

// TestHostileChecks: a check captured on the way is replayed, sent from
// elsewhere, and changed; none of it moves a path or is answered.
func TestHostileChecks(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", public)
		b := w.at("203.0.113.2", public)
		own := a.host.Addr()
		evil := netip.MustParseAddrPort("203.0.113.66:666")
		var mu sync.Mutex
		var checks, answers, toEvil [][]byte
		w.net.Tap(func(p simnet.Packet) {
			mu.Lock()
			defer mu.Unlock()
			m, err := stunwire.Parse(p.Data)
			switch {
			case p.To == evil:
				toEvil = append(toEvil, p.Data)
			case err == nil && m.HasIntegrity() && m.Class == stunwire.Request && p.To == own:
				checks = append(checks, p.Data)
			case err == nil && m.HasIntegrity() && m.Class == stunwire.Success && p.To == own:
				answers = append(answers, p.Data)
			}
		})
		time.Sleep(2 * time.Second)
		a.agent.Want(b.pub)
		a.direct(b, 5*time.Second)
		b.direct(a, 5*time.Second)
		converse(a, b, 3*time.Second)
		before, stats := a.agent.Peer(b.pub), a.agent.Stats()

		mu.Lock()
		captured := slices.Concat(checks, answers)
		mu.Unlock()
		n := 0
		for _, c := range captured {
			w.net.Inject(simnet.Packet{From: evil, To: a.host.Addr(), Data: c})            // elsewhere
			w.net.Inject(simnet.Packet{From: b.host.Addr(), To: a.host.Addr(), Data: c})   // again
			w.net.Inject(simnet.Packet{From: evil, To: a.host.Addr(), Data: c[:len(c)-8]}) // cut
			for i := range c {
				changed := bytes.Clone(c)
				changed[i] ^= 0x40
				w.net.Inject(simnet.Packet{From: evil, To: a.host.Addr(), Data: changed})
			}
			if n++; n%4 == 0 {
				time.Sleep(100 * time.Millisecond)
			}
		}
		// A plain request is not answered either: this is no STUN server.
		w.net.Inject(simnet.Packet{From: evil, To: a.host.Addr(), Data: stunwire.AppendRequest(nil, stunwire.NewTxID())})
		time.Sleep(100 * time.Millisecond)
		if len(toEvil) > 0 {
			t.Errorf("%d packets to the attacker", len(toEvil))
		}
		after, now := a.agent.Peer(b.pub), a.agent.Stats()
		if after.Addr != before.Addr || after.State != Direct {
			t.Errorf("path %+v, before %+v", after, before)
		}
		if now.Replayed == stats.Replayed || now.Unverified == stats.Unverified {
			t.Errorf("nothing was refused: %+v, before %+v", now, stats)
		}
	})
}

// TestFloodOfOwnPeer: a thousand valid checks of one peer get at most the budget.
func TestFloodOfOwnPeer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", public)
		b := w.at("203.0.113.2", public)
		time.Sleep(time.Second)
		s, err := newSecrets(b.private, b.pub, a.pub)
		if err != nil {
			t.Fatal(err)
		}
		before := a.agent.Stats()
		for i := range 1000 {
			c := stunwire.Check{ID: stunwire.NewTxID(), Hint: s.hintOut, Epoch: math.MaxUint64, Seq: uint64(i)}
			w.net.Inject(simnet.Packet{From: b.host.Addr(), To: a.host.Addr(), Data: stunwire.AppendCheck(nil, c, &s.check)})
			if i%100 == 99 {
				time.Sleep(50 * time.Millisecond)
			}
		}
		time.Sleep(50 * time.Millisecond)
		if n := a.agent.Stats().Answers - before.Answers; n == 0 || n > 2*answersPerPeer {
			t.Errorf("%d answers to 1000 checks in half a second", n)
		}
	})
}

// offerTo seals an offer from n to peer.
func offerTo(t *testing.T, n, peer *simNode, o offer) []byte {
	t.Helper()
	s, err := newSecrets(n.private, n.pub, peer.pub)
	if err != nil {
		t.Fatal(err)
	}
	return s.seal(o.appendTo(nil))
}

// TestHostileOffers: candidates nobody may probe, and far too many.
func TestHostileOffers(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", public)
		b := w.at("203.0.113.2", public)
		time.Sleep(2 * time.Second)
		bad := []string{
			"127.0.0.1:53", "[::1]:53", "224.0.0.1:9", "[ff02::1]:9", "0.0.0.0:9", "[::]:9", "100.64.0.9:51820",
			"198.51.100.9:0", "255.255.255.255:9", "169.254.169.254:80", "[fe80::1]:9", "203.0.113.1:51000", "[::ffff:127.0.0.1]:9",
		}
		o := offer{WantReply: true, Epoch: math.MaxUint64 - 1, Seq: 1}
		for _, s := range bad {
			o.Candidates = append(o.Candidates, candidate{Addr: netip.MustParseAddrPort(s), Kind: host, Priority: math.MaxUint32})
		}
		synctest.Wait() // filter belongs to the agent's goroutine: it sleeps now
		if got := a.agent.filter(o.Candidates); len(got) > 0 {
			t.Errorf("let through: %v", got)
		}
		own := a.host.Addr()
		var mu sync.Mutex
		probed := map[netip.AddrPort]int{}
		w.net.Tap(func(p simnet.Packet) {
			mu.Lock()
			defer mu.Unlock()
			if m, err := stunwire.Parse(p.Data); err == nil && m.Class == stunwire.Request && m.HasHint && p.From == own {
				probed[p.To]++
			}
		})
		// 10,000 candidates, of which a message of the largest size holds a few hundred.
		many := (&offer{Epoch: math.MaxUint64 - 1, Seq: 2}).appendTo(nil)
		binary.BigEndian.PutUint16(many[6:], 10_000)
		for i := range 10_000 {
			many = append(many, byte(reflexive), 4, 0x10, 0, 0xff, 0xff, 0xff, 0xff, 198, 18, byte(i>>8), byte(i))
		}
		if parsed, err := parseOffer(many); err != nil || len(parsed.Candidates) != maxCandidates {
			t.Errorf("%d candidates, %v", len(parsed.Candidates), err)
		}
		s, _ := newSecrets(b.private, b.pub, a.pub)
		a.agent.HandleSignal(b.pub, s.seal(many)) // too long: dropped unread
		a.agent.HandleSignal(b.pub, s.seal(many[:controlapi.MaxSignal-64]))
		a.agent.HandleSignal(b.pub, offerTo(t, b, a, o))
		sealed := offerTo(t, b, a, offer{Epoch: math.MaxUint64 - 1, Seq: 3})
		a.agent.HandleSignal(key.NewPrivate().Public(), sealed) // a stranger
		sealed[30] ^= 1
		a.agent.HandleSignal(b.pub, sealed) // tampered
		time.Sleep(20 * time.Second)
		mu.Lock()
		defer mu.Unlock()
		if len(probed) > maxCandidates+1 {
			t.Errorf("%d addresses probed", len(probed))
		}
		total := 0
		for _, n := range probed {
			total += n
		}
		if total > maxCandidates*len(burst)*3 {
			t.Errorf("%d checks for one offer", total)
		}
		if st := a.agent.Stats(); st.Unverified < 2 || st.Dropped != 1 {
			t.Errorf("stats %+v", st)
		}
		// It can still be reached.
		b.agent.Want(a.pub)
		b.direct(a, 10*time.Second)
	})
}

// TestReplayedOffer: an offer seen before does nothing.
func TestReplayedOffer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", public)
		b := w.at("203.0.113.2", public)
		time.Sleep(time.Second)
		sealed := offerTo(t, b, a, offer{Epoch: 5, Seq: 1})
		for range 10 {
			a.agent.HandleSignal(b.pub, sealed)
		}
		time.Sleep(10 * time.Second)
		if got := a.agent.Stats().Replayed; got != 9 {
			t.Errorf("%d replays refused", got)
		}
	})
}

// TestLyingSTUNServer: its answer is offered to peers at most; one that is not
// the server's, or names an address nobody has, is not even that.
func TestLyingSTUNServer(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		lies := []string{"127.0.0.1:1", "100.64.0.1:1", "224.0.0.1:1", "203.0.113.99:7"}
		site := w.net.NewSite("198.51.100.66", public)
		var h *simnet.Host
		var n atomic.Int32
		h = site.NewHost("198.51.100.66:3478", func(b []byte, from netip.AddrPort) {
			if m, err := stunwire.Parse(b); err == nil {
				h.Send(stunwire.AppendSuccess(nil, m.ID, netip.MustParseAddrPort(lies[int(n.Add(1))%len(lies)]), true), from)
			}
		})
		w.stun = []string{"198.51.100.66:3478"}
		a := w.at("203.0.113.1", portRestricted)
		b := w.at("203.0.113.2", public)
		for range lies {
			time.Sleep(30 * time.Second)
			for _, m := range a.agent.NAT().Mapped {
				if m != netip.MustParseAddrPort("203.0.113.99:7") {
					t.Errorf("believed %s", m)
				}
			}
			a.agent.Want(b.pub)
		}
		a.direct(b, 5*time.Second)
	})
}

// TestClockWentBack: a node whose clock was an hour ahead in its last life is
// still believed by its peers, with and without the service.
func TestClockWentBack(t *testing.T) {
	for _, down := range []bool{false, true} {
		inWorld(t, func(t *testing.T, w *world) {
			a := w.at("203.0.113.1", public)
			b := w.at("203.0.113.2", public)
			time.Sleep(time.Second)
			s, _ := newSecrets(b.private, b.pub, a.pub)
			future := uint64(time.Now().Add(time.Hour).UnixMicro())
			a.agent.HandleSignal(b.pub, offerTo(t, b, a, offer{Epoch: future, Seq: 1}))
			c := stunwire.Check{ID: stunwire.NewTxID(), Hint: s.hintOut, Epoch: future, Seq: 7}
			w.net.Inject(simnet.Packet{From: netip.MustParseAddrPort("203.0.113.2:1"), To: a.host.Addr(), Data: stunwire.AppendCheck(nil, c, &s.check)})
			time.Sleep(30 * time.Second)
			if down {
				w.serviceDown(true)
				b.stop()
				<-b.done
				b.start(func(c *Config) { c.Hints = []Hint{{a.pub, []netip.AddrPort{a.host.Addr()}, time.Now()}} })
			}
			b.agent.Want(a.pub)
			b.direct(a, 10*time.Second)
			a.direct(b, 10*time.Second)
		})
	}
}

// TestForgottenMember: who leaves the network loses the path at once, and is
// not answered any more.
func TestForgottenMember(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", public)
		b := w.at("203.0.113.2", public)
		time.Sleep(time.Second)
		a.agent.Want(b.pub)
		a.direct(b, 5*time.Second)
		a.agent.SetPeers(nil)
		time.Sleep(time.Second)
		if a.path(b).IsValid() || a.agent.Peer(b.pub).State != Idle {
			t.Error("the path of a former member stays")
		}
		before := a.agent.Stats().Answers
		b.talk(a, 10*time.Second)
		if n := a.agent.Stats().Answers - before; n > 0 {
			t.Errorf("%d answers to a former member", n)
		}
	})
}

// TestMemberBackAtOnce: a member that left and came back before the agent looked
// at its mail was forgotten by the socket, so it is told the route anew.
func TestMemberBackAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", public)
		b := w.at("203.0.113.2", public)
		time.Sleep(time.Second)
		a.agent.Want(b.pub)
		a.direct(b, 5*time.Second)
		members := []Peer{{Key: a.pub}, {Key: b.pub}}
		a.mu.Lock()
		delete(a.paths, b.pub) // as the socket does
		a.mu.Unlock()
		a.agent.questions <- func() { // while its goroutine does something else
			a.agent.SetPeers(nil)
			a.agent.SetPeers(members)
			a.agent.SetPeers(members)
		}
		a.agent.Want(b.pub)
		time.Sleep(5 * time.Second)
		if !a.path(b).IsValid() {
			t.Errorf("no route to a member that came back: %+v", a.agent.Peer(b.pub))
		}
	})
}

// TestManyMembers: the secrets of all members are made in the background, and
// a wanted one does not wait for them.
func TestManyMembers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, net: simnet.New(10 * time.Millisecond), nodes: make(map[key.Public]*simNode)}
		a := w.at("203.0.113.1", public)
		b := w.at("203.0.113.2", public)
		members := []Peer{{Key: a.pub}, {Key: b.pub}}
		for range 2000 {
			members = append(members, Peer{Key: key.NewPrivate().Public()})
		}
		a.agent.SetPeers(members)
		a.agent.Want(b.pub)
		a.direct(b, 5*time.Second)
		time.Sleep(time.Minute)
		a.stop()
		b.stop()
		if n := len(a.agent.byHint); n != len(members)-1 {
			t.Errorf("%d hints for %d members", n, len(members)-1)
		}
	})
}

// TestEndsAtOnce: Run ends while everything it waits for hangs.
func TestEndsAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		a := w.at("203.0.113.1", public, func(c *Config) {
			c.Signal = func(ctx context.Context, _ key.Public, _ []byte) error { <-ctx.Done(); return ctx.Err() }
		})
		b := w.at("203.0.113.2", public)
		a.agent.Want(b.pub)
		time.Sleep(time.Second)
		began := time.Now()
		a.stop()
		if took := time.Since(began); took > 0 {
			t.Errorf("the end took %s", took)
		}
	})
}
