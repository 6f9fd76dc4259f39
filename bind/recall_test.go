package bind

import (
	"bytes"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"nexd/internal/relaypath"
)

// TestRecall: what went to a silent peer is sent again over a new path, in
// order and once; what was heard of since, what is stale and bulk is not.
func TestRecall(t *testing.T) {
	ms := func(n int) int64 { return int64(n) * int64(time.Millisecond) }
	var r recall
	r.keep([][]byte{{1}}, ms(1000), ms(950))                        // not silent yet
	r.keep([][]byte{{2}, {2}, {2}, {2}, {2}}, ms(1200), ms(950))    // bulk
	r.keep([][]byte{make([]byte, recallSize+1)}, ms(1200), ms(950)) // no packet of ours
	r.keep([][]byte{{3}, {4}}, ms(1200), ms(950))
	r.keep([][]byte{{5}}, ms(1500), ms(950))
	if got := r.since(ms(1600), ms(950)); !bytes.Equal(bytes.Join(got, nil), []byte{3, 4, 5}) {
		t.Errorf("recalled %v", got)
	}
	if got := r.since(ms(1600), ms(950)); len(got) != 3 {
		t.Errorf("the next way may be dead as well, and %v are recalled", got)
	}
	if got := r.since(ms(1600), ms(1550)); got != nil {
		t.Errorf("recalled what was heard of: %v", got)
	}
	r.keep([][]byte{{6}}, ms(2000), ms(950))
	r.keep([][]byte{{7}}, ms(2500), ms(2100)) // it was heard in between
	if got := r.since(ms(2600), ms(2100)); !bytes.Equal(bytes.Join(got, nil), []byte{7}) {
		t.Errorf("recalled %v", got)
	}
	r.keep([][]byte{{8}}, ms(3000), ms(2100))
	if got := r.since(ms(3000)+int64(recallFor)+1, ms(2100)); got != nil {
		t.Errorf("recalled what is stale: %v", got)
	}
	for i := range 3 * recallPackets {
		r.keep([][]byte{{byte(i)}}, ms(9000+i), ms(2100))
	}
	if got := r.since(ms(9100), ms(2100)); len(got) != recallPackets || got[recallPackets-1][0] != 3*recallPackets-1 {
		t.Errorf("%d recalled, the last %v", len(got), got[len(got)-1])
	}
}

// TestRecallOverRoutes: a new path, and a spare that takes part, bring what the
// path before may have swallowed; a mere spare does not.
func TestRecallOverRoutes(t *testing.T) { synctest.Test(t, recallOverRoutes) }

func recallOverRoutes(t *testing.T) {
	relays, socket := &fakeRelays{}, &fakeSocket{}
	b := opened(t, socket, Config{Relays: relays})
	b.epoch = b.epoch.Add(-recallAfter) // the silence a peer begins with
	peer := newPeer()
	first, second := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:2")
	setPath(b, peer, first)
	send := func() {
		if err := b.Send([][]byte{transport(1)}, peerEndpoint(t, b, peer)); err != nil {
			t.Fatal(err)
		}
	}
	send()
	if n := len(socket.take()); n != 1 {
		t.Fatalf("%d packets sent", n)
	}
	b.SetRoute(peer, Route{Path: first, Spare: relaypath.Addr(3)})
	if got := relays.take(); len(got) != 0 {
		t.Errorf("%d packets to a spare", len(got))
	}
	b.SetRoute(peer, Route{Path: first, Spare: relaypath.Addr(3), Both: true})
	if got := relays.take(); len(got) != 1 {
		t.Errorf("%d packets recalled over the relay", len(got))
	}
	send()
	b.SetRoute(peer, Route{})
	send() // finds no path, and is kept
	socket.take()
	setPath(b, peer, second)
	if got := socket.take(); len(got) != 3 {
		t.Errorf("%d packets recalled over the new path", len(got))
	}
	if n := b.Stats().Recalled; n != 4 {
		t.Errorf("%d recalled in all", n)
	}
}

// TestRecallWhenHeardAgain: a peer whose path was in doubt and that is heard
// after a silence gets what it may have missed; one that was merely slow does not.
func TestRecallWhenHeardAgain(t *testing.T) { synctest.Test(t, recallWhenHeardAgain) }

func recallWhenHeardAgain(t *testing.T) {
	relays, socket := &fakeRelays{}, &fakeSocket{}
	b := opened(t, socket, Config{Relays: relays})
	b.epoch = b.epoch.Add(-time.Minute)
	peer := newPeer()
	path := netip.MustParseAddrPort("192.0.2.1:1")
	setPath(b, peer, path)
	hear := func() { sorted(b, frame(3, peer, transport(2))) }
	send := func() { b.Send([][]byte{transport(1)}, peerEndpoint(t, b, peer)) }
	send()
	socket.take()
	hear()
	if got := socket.take(); len(got) != 0 {
		t.Errorf("%d packets again to a peer that was slow", len(got))
	}
	b.SetRoute(peer, Route{Path: path, Spare: relaypath.Addr(3), Both: true})
	relays.take()
	b.epoch = b.epoch.Add(-2 * backAfter) // silence
	send()
	socket.take()
	relays.take()
	hear()
	if direct, relayed := len(socket.take()), len(relays.take()); direct == 0 || relayed == 0 {
		t.Errorf("%d and %d packets again to a peer that is back", direct, relayed)
	}
	hear()
	if direct, relayed := len(socket.take()), len(relays.take()); direct+relayed != 0 {
		t.Errorf("%d and %d packets again without a silence", direct, relayed)
	}
}
