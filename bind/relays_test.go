package bind

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/relaypath"
	"nexd/key"
)

// fakeRelays has one frame: 0xC0, the relay's number, the peer's key, the packet.
type fakeRelays struct {
	mu   sync.Mutex
	tls  bool
	full bool // takes nothing
	sent []relayed
}

type relayed struct {
	relay uint16
	peer  key.Public
	pkt   []byte
}

func (f *fakeRelays) Send(relay uint16, peer key.Public, packets [][]byte) (int, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.full {
		return 0, false
	}
	for _, p := range packets {
		f.sent = append(f.sent, relayed{relay, peer, bytes.Clone(p)})
	}
	return len(packets), f.tls
}

func (f *fakeRelays) take() []relayed {
	f.mu.Lock()
	defer f.mu.Unlock()
	sent := f.sent
	f.sent = nil
	return sent
}

func (f *fakeRelays) HandleUDP(pkt []byte, _ netip.AddrPort) (relay uint16, peer key.Public, packet []byte, ok bool) {
	if len(pkt) < 35 || pkt[0] != 0xC0 {
		return 0, key.Public{}, nil, false
	}
	peer, err := key.PublicFromBytes(pkt[3:35])
	return binary.BigEndian.Uint16(pkt[1:]), peer, pkt[35:], err == nil
}

func frame(relay uint16, peer key.Public, pkt []byte) []byte {
	f := binary.BigEndian.AppendUint16([]byte{0xC0}, relay)
	return append(append(f, peer.Bytes()...), pkt...)
}

// sorted runs packets from here through a receiver and returns what is left.
func sorted(b *Bind, packets ...[]byte) (left []packet) {
	bufs, sizes, eps := make([][]byte, len(packets)), make([]int, len(packets)), make([]conn.Endpoint, len(packets))
	for i, p := range packets {
		bufs[i] = make([]byte, 2048)
		sizes[i], eps[i] = copy(bufs[i], p), &conn.StdNetEndpoint{AddrPort: here}
	}
	r := &receiver{bind: b, relayed: relayUDP}
	r.sort(bufs, sizes, eps)
	for i, n := range sizes {
		if n > 0 {
			left = append(left, packet{bufs[i][:n], eps[i]})
		}
	}
	return left
}

func TestPacketsInFrames(t *testing.T) { synctest.Test(t, packetsInFrames) }

func packetsInFrames(t *testing.T) {
	var heard []key.Public
	var stun []netip.AddrPort
	var offers [][]byte
	relays := &fakeRelays{}
	b := opened(t, &fakeSocket{}, Config{
		Relays:  relays,
		OnHeard: func(p key.Public) { heard = append(heard, p) },
		OnSTUN:  func(_ []byte, from netip.AddrPort) { stun = append(stun, from) },
		OnOffer: func(_ uint16, _ key.Public, sealed []byte) { offers = append(offers, bytes.Clone(sealed)) },
	})
	peer, stranger := newPeer(), newPeer()
	ep := peerEndpoint(t, b, peer)
	left := sorted(b,
		frame(7, peer, transport(1)), frame(7, peer, transport(2)), // one run
		frame(9, peer, transport(3)), // another
		frame(7, peer, stunMessage(8)), stunMessage(8),
		frame(7, peer, []byte{relaypath.Offer, 1, 2, 3}),
		frame(7, peer, []byte("nonsense")), frame(7, peer, nil), []byte{0xC1}, []byte{0xFF, 0, 0},
		frame(0, peer, transport(4)), // no such relay
		frame(7, stranger, initiation(5)), frame(7, stranger, transport(6)),
		frame(7, peer, frame(7, peer, transport(7))), // frames in frames are nothing
	)
	if len(left) != 5 {
		t.Fatalf("%d packets for WireGuard, want 5", len(left))
	}
	for i, want := range [][]byte{transport(1), transport(2), transport(3), initiation(5), transport(6)} {
		if !bytes.Equal(left[i].data, want) {
			t.Errorf("packet %d is % x", i, left[i].data[:8])
		}
	}
	if left[0].from != left[1].from || left[0].from == left[2].from || left[3].from != left[4].from {
		t.Error("an endpoint is not one of a peer and a relay")
	}
	if again := sorted(b, frame(7, peer, transport(1))); again[0].from != left[0].from {
		t.Error("a peer has two endpoints at one relay")
	}
	if len(heard) != 4 || heard[0] != peer || heard[1] != peer || heard[2] != stranger {
		t.Errorf("heard of %v", heard)
	}
	if len(stun) != 2 || stun[0] != relaypath.Addr(7) || stun[1] != here {
		t.Errorf("STUN from %v", stun)
	}
	if len(offers) != 1 || !bytes.Equal(offers[0], []byte{1, 2, 3}) {
		t.Errorf("offers %x", offers)
	}
	if got := b.Activity(peer); got.Relay != 7 || got.RelayAt.IsZero() || !got.LastReceived.IsZero() || got.RxBytes != 4*64 {
		t.Errorf("activity %+v", got)
	}
	b.SetRoute(peer, Route{Path: relaypath.Addr(9)})
	if sorted(b, frame(7, peer, transport(1))); !b.Activity(peer).LastReceived.IsZero() {
		t.Error("another relay than the path's counts as the path")
	}
	if sorted(b, frame(9, peer, transport(1))); b.Activity(peer).LastReceived.IsZero() || b.Activity(peer).Relay != 9 {
		t.Error("the path's relay does not count")
	}
	s := b.Stats()
	if s.RelayFrames != 16 || s.DroppedGarbage != 3 || s.Offers != 1 || s.STUN != 2 || s.Paths.RelayUDP.RxPackets != 8 || s.WireGuard != 8 {
		t.Errorf("counters %+v", s)
	}
	// What answers such an endpoint goes back the same way.
	for _, to := range []conn.Endpoint{left[2].from, left[3].from} {
		if err := b.Send([][]byte{message(3, 64, 0)}, to); err != nil {
			t.Fatal(err)
		}
	}
	if got := relays.take(); len(got) != 2 || got[0].relay != 9 || got[0].peer != peer || got[1].relay != 7 || got[1].peer != stranger {
		t.Errorf("answers went to %v", got)
	}
	if left[0].from.DstIP() != left[2].from.DstIP() || left[0].from.DstIP() == left[3].from.DstIP() ||
		!bytes.Equal(left[0].from.DstToBytes(), left[2].from.DstToBytes()) || !left[0].from.DstIP().IsPrivate() {
		t.Error("addresses are not of the peer")
	}
	// A peer that was forgotten and comes back is another object.
	b.Forget(peer)
	if again := sorted(b, frame(7, peer, transport(1))); again[0].from == left[0].from {
		t.Error("the endpoint of a forgotten peer is still used")
	}
	if peerEndpoint(t, b, peer) == ep {
		t.Error("not forgotten")
	}
}

// Whoever is configured by OnHeard has its relay noted at once: the answer
// needs it.
func TestStrangerThatIsConfiguredByItsFirstPacket(t *testing.T) {
	var b *Bind
	b = opened(t, &fakeSocket{}, Config{Relays: &fakeRelays{}, OnHeard: func(p key.Public) { b.endpoint(p) }})
	peer := newPeer()
	sorted(b, frame(3, peer, initiation(1)))
	if got := b.Activity(peer); got.Relay != 3 {
		t.Errorf("activity %+v", got)
	}
}

func TestRouteThroughARelay(t *testing.T) { synctest.Test(t, routeThroughARelay) }

func routeThroughARelay(t *testing.T) {
	for _, tls := range []bool{false, true} {
		f, relays := &fakeSocket{}, &fakeRelays{tls: tls}
		b := opened(t, f, Config{Relays: relays})
		peer := newPeer()
		ep := peerEndpoint(t, b, peer)
		b.Send([][]byte{initiation(1)}, ep)
		b.SetRoute(peer, Route{Path: relaypath.Addr(5)})
		b.Send([][]byte{transport(2), transport(3)}, ep)
		got := relays.take()
		if len(got) != 3 || got[0].relay != 5 || got[0].peer != peer || !bytes.Equal(got[0].pkt, initiation(1)) || len(f.take()) != 0 {
			t.Fatalf("%d packets went through the relay", len(got))
		}
		s := b.Stats()
		stats := s.Paths.RelayUDP
		if tls {
			stats = s.Paths.RelayTLS
		}
		if stats.TxPackets != 3 || stats.TxBytes != 148+128 || s.Flushed != 1 {
			t.Errorf("counters %+v", s)
		}
		if a := b.Activity(peer); a.TxBytes != 148+128 || a.LastSent.IsZero() {
			t.Errorf("activity %+v", a)
		}
		if len(*b.table.Load()) != 0 {
			t.Error("a relay is in the table of addresses: datagrams could forge it")
		}
		relays.full = true
		b.Send([][]byte{transport(4)}, ep)
		if s := b.Stats(); s.RelayRefused != 1 {
			t.Errorf("counters %+v", s)
		}
		if err := b.WriteRelay(5, peer, stunMessage(0)); err == nil {
			t.Error("a check that nobody took was sent")
		}
		relays.full = false
		if err := b.WriteRelay(5, peer, stunMessage(0)); err != nil || len(relays.take()) != 1 {
			t.Error(err)
		}
		b.Close()
		if err := b.Send([][]byte{transport(4)}, ep); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		if err := b.WriteRelay(5, peer, stunMessage(0)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
	}
}

func TestRelaysThatAreNone(t *testing.T) {
	b := opened(t, &fakeSocket{}, Config{})
	peer := newPeer()
	b.SetRoute(peer, Route{Path: relaypath.Addr(5)})
	if got := b.Path(peer); got.IsValid() {
		t.Errorf("path %s without relays", got)
	}
	if err := b.WriteRelay(5, peer, stunMessage(0)); !errors.Is(err, errNoRelays) {
		t.Errorf("error %v", err)
	}
	for _, to := range []netip.AddrPort{relaypath.Addr(5), netip.MustParseAddrPort("[100::2]:7")} {
		if err := b.WriteSTUN(stunMessage(0), to); err == nil {
			t.Errorf("STUN to %s", to)
		}
		if err := b.WriteUDP([][]byte{{1}}, to); err == nil {
			t.Errorf("datagram to %s", to)
		}
	}
}

// A datagram with a relay's address as its source was forged.
func TestForgedRelayAddress(t *testing.T) {
	b := opened(t, &fakeSocket{}, Config{Relays: &fakeRelays{}, OnSTUN: func(_ []byte, from netip.AddrPort) {
		t.Errorf("STUN from %s", from)
	}})
	peer := newPeer()
	b.SetRoute(peer, Route{Path: relaypath.Addr(5), Spare: here})
	r := &receiver{bind: b}
	bufs, sizes := [][]byte{stunMessage(8), transport(1)}, []int{28, 64}
	from := &conn.StdNetEndpoint{AddrPort: relaypath.Addr(5)}
	r.sort(bufs, sizes, []conn.Endpoint{from, from})
	if got := b.Activity(peer); got.RxBytes != 0 || !got.LastReceived.IsZero() {
		t.Errorf("activity %+v", got)
	}
}

func TestSpareAndBoth(t *testing.T) { synctest.Test(t, spareAndBoth) }

func spareAndBoth(t *testing.T) {
	f, relays := &fakeSocket{}, &fakeRelays{}
	b := opened(t, f, Config{Relays: relays})
	peer := newPeer()
	ep := peerEndpoint(t, b, peer)
	count := func(direct, relay int, what string) {
		t.Helper()
		if d, r := len(f.take()), len(relays.take()); d != direct || r != relay {
			t.Errorf("%s: %d direct, %d relayed, want %d and %d", what, d, r, direct, relay)
		}
	}
	b.Send([][]byte{initiation(1)}, ep)
	r := Route{Path: here, Spare: relaypath.Addr(2)}
	b.SetRoute(peer, r)
	count(1, 1, "a message that waited")
	b.repeats.drop(ep.newest)
	b.SetRoute(peer, r)
	count(0, 0, "the same route")
	b.Send([][]byte{transport(1)}, ep)
	count(1, 0, "data")
	b.Send([][]byte{message(2, 92, 1)}, ep)
	count(1, 1, "a handshake message")
	b.repeats.drop(ep.newest) // it would be repeated in the midst of what follows
	r.Both = true
	b.SetRoute(peer, r)
	count(0, 0, "Both alone")
	b.Send([][]byte{transport(1), transport(2)}, ep)
	count(2, 2, "data over both")
	// An error of one does not matter.
	f.onSend = func([][]byte, *conn.StdNetEndpoint) error { return syscall.EPERM }
	before := b.Activity(peer)
	if err := b.Send([][]byte{transport(1)}, ep); err != nil {
		t.Error(err)
	}
	count(0, 1, "data over one that works")
	if after := b.Activity(peer); after.TxBytes != before.TxBytes+64 {
		t.Error("not counted as sent")
	}
	f.onSend, relays.full = nil, true
	b.Send([][]byte{transport(1)}, ep)
	count(1, 0, "data over the other that works")
	relays.full = false
	// 2 MB, and no more.
	sent := 4 * 64
	big := message(4, 1000, 0)
	for sent+len(big) <= bothBytes {
		b.Send([][]byte{big}, ep)
		sent += len(big)
	}
	if n := len(relays.take()); n != (bothBytes-4*64)/1000 {
		t.Errorf("%d packets over the spare", n)
	}
	f.take()
	b.Send([][]byte{big}, ep)
	b.SetRoute(peer, r)
	b.Send([][]byte{transport(1)}, ep)
	count(2, 0, "after 2 MB")
	if s := b.Stats(); s.NotDoubled != 2 {
		t.Errorf("counters %+v", s)
	}
	b.SetRoute(peer, Route{Path: r.Path, Spare: r.Spare})
	b.SetRoute(peer, r)
	b.Send([][]byte{transport(1)}, ep)
	count(1, 1, "Both set anew")
	// Without a path the rest does not count.
	b.SetRoute(peer, Route{Spare: here, Both: true})
	b.Send([][]byte{transport(1)}, ep)
	count(0, 0, "no path")
	if len(*b.table.Load()) != 0 {
		t.Error("an address was kept")
	}
}

func TestOnlyNewAddressesGetTheMessage(t *testing.T) { synctest.Test(t, onlyNewAddressesGetTheMessage) }

func onlyNewAddressesGetTheMessage(t *testing.T) {
	f, relays := &fakeSocket{}, &fakeRelays{}
	b := opened(t, f, Config{Relays: relays})
	peer := newPeer()
	ep := peerEndpoint(t, b, peer)
	b.SetRoute(peer, Route{Path: here})
	b.Send([][]byte{initiation(1)}, ep)
	f.take()
	b.SetRoute(peer, Route{Path: relaypath.Addr(1), Spare: here})
	if d, r := len(f.take()), len(relays.take()); d != 0 || r != 1 {
		t.Errorf("%d direct, %d relayed", d, r)
	}
	b.SetRoute(peer, Route{Path: here, Spare: there})
	if d, r := len(f.take()), len(relays.take()); d != 1 || r != 0 {
		t.Errorf("%d direct, %d relayed", d, r)
	}
	if got := (*b.table.Load())[there]; got != ep {
		t.Error("what comes from the spare address is nobody's")
	}
	if sorted(b, transport(1)); b.Activity(peer).LastReceived.IsZero() {
		t.Error("the path does not count")
	}
}

func TestRelayedSortingAllocatesNothing(t *testing.T) {
	b := newBind(Config{Relays: &fakeRelays{}}, &fakeSocket{})
	peer := newPeer()
	b.SetRoute(peer, Route{Path: relaypath.Addr(1)})
	r := &receiver{bind: b}
	pkt := frame(1, peer, transport(1))
	const n = 128
	bufs, sizes, eps := make([][]byte, n), make([]int, n), make([]conn.Endpoint, n)
	for i := range bufs {
		bufs[i] = make([]byte, len(pkt))
	}
	from := &conn.StdNetEndpoint{AddrPort: here}
	if got := testing.AllocsPerRun(100, func() {
		for i := range bufs {
			sizes[i], eps[i] = copy(bufs[i], pkt), from
		}
		r.sort(bufs, sizes, eps)
	}); got != 0 {
		t.Errorf("%v allocations per batch", got)
	}
}

// FuzzSort: whatever arrives, WireGuard gets only what has the form of its
// messages, in its buffer, from a source.
func FuzzSort(f *testing.F) {
	peer := newPeer()
	for _, seed := range [][]byte{nil, transport(1), stunMessage(8), {0xC0}, frame(1, peer, transport(1)), frame(1, peer, stunMessage(0)), frame(2, peer, []byte{relaypath.Offer})} {
		f.Add(seed, seed, 3)
	}
	b := newBind(Config{Relays: &fakeRelays{}, OnOffer: func(_ uint16, _ key.Public, sealed []byte) { _ = bytes.Clone(sealed) }}, &fakeSocket{})
	b.SetRoute(peer, Route{Path: here, Spare: relaypath.Addr(1)})
	b.Open(1)
	b.Send([][]byte{initiation(0)}, b.endpoint(peer))
	r := &receiver{bind: b, relayed: relayUDP}
	f.Fuzz(func(t *testing.T, one, two []byte, cut int) {
		packets := [][]byte{one, two, one[:max(0, min(cut, len(one)))], frame(uint16(cut), peer, two)}
		bufs, sizes, eps := make([][]byte, len(packets)), make([]int, len(packets)), make([]conn.Endpoint, len(packets))
		for i, p := range packets {
			bufs[i] = make([]byte, len(p))
			sizes[i], eps[i] = copy(bufs[i], p), &conn.StdNetEndpoint{AddrPort: here}
		}
		some := r.sort(bufs, sizes, eps)
		left := 0
		for i, n := range sizes {
			if n == 0 {
				continue
			}
			left++
			if n > len(bufs[i]) || classify(bufs[i][:n]) != kindWireGuard {
				t.Fatalf("% x went to WireGuard", bufs[i])
			}
			if !eps[i].DstIP().IsValid() {
				t.Fatal("no source")
			}
		}
		if some != (left > 0) {
			t.Fatalf("%d packets left, said %v", left, some)
		}
		b.Deliver(uint16(cut), peer, one)
	})
}
