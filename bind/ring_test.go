package bind

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/relaypath"
	"nexd/key"
)

// readRing returns the next batch of the ring's receive function.
func readRing(t *testing.T, fn conn.ReceiveFunc, n int) []packet {
	t.Helper()
	bufs, sizes, eps := make([][]byte, n), make([]int, n), make([]conn.Endpoint, n)
	for i := range bufs {
		bufs[i] = make([]byte, 4096)
	}
	got, err := fn(bufs, sizes, eps)
	if err != nil {
		t.Fatal(err)
	}
	var out []packet
	for i := range got {
		if sizes[i] > 0 {
			out = append(out, packet{bufs[i][:sizes[i]], eps[i]})
		}
	}
	return out
}

func TestDeliver(t *testing.T) {
	var heard int
	var stun []netip.AddrPort
	var offers int
	f := &fakeSocket{}
	b := newBind(Config{
		Relays: &fakeRelays{}, OnHeard: func(key.Public) { heard++ },
		OnSTUN:  func(_ []byte, from netip.AddrPort) { stun = append(stun, from) },
		OnOffer: func(uint16, key.Public, []byte) { offers++ },
	}, f)
	peer := newPeer()
	b.SetRoute(peer, Route{Path: relaypath.Addr(4)})
	b.Deliver(4, peer, transport(0)) // not open: dropped
	fns, _, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	fn := fns[len(fns)-1]
	pkt := transport(1)
	b.Deliver(4, peer, pkt)
	pkt[0] = 9 // it was copied
	b.Deliver(4, peer, stunMessage(0))
	b.Deliver(4, peer, []byte{relaypath.Offer, 1})
	b.Deliver(4, peer, []byte("nonsense"))
	b.Deliver(4, peer, nil)
	b.Deliver(0, peer, transport(1))
	b.Deliver(4, peer, transport(2))
	got := readRing(t, fn, 128)
	if len(got) != 2 || !bytes.Equal(got[0].data, transport(1)) || !bytes.Equal(got[1].data, transport(2)) || got[0].from != got[1].from {
		t.Fatalf("%d packets", len(got))
	}
	if heard != 1 || offers != 1 || len(stun) != 1 || stun[0] != relaypath.Addr(4) {
		t.Errorf("heard %d, offers %d, STUN %v", heard, offers, stun)
	}
	if a := b.Activity(peer); a.Relay != 4 || a.LastReceived.IsZero() || a.RxBytes != 128 {
		t.Errorf("activity %+v", a)
	}
	if s := b.Stats(); s.Paths.RelayTLS.RxPackets != 2 || s.DroppedGarbage != 2 {
		t.Errorf("counters %+v", s)
	}
	// The oldest go when it is full.
	for i := range 600 {
		b.Deliver(4, peer, message(4, 64, byte(i)))
	}
	if got := readRing(t, fn, 1); got[0].data[63] != 600-ringPackets {
		t.Errorf("the oldest is %d", got[0].data[63])
	}
	if s := b.Stats(); s.DroppedRing != 600-ringPackets {
		t.Errorf("%d dropped", s.DroppedRing)
	}
	// A blocked read ends with the socket, and works again after it.
	b.Close()
	fns, _, _ = b.Open(0)
	ended := make(chan error)
	go func() {
		_, err := fns[len(fns)-1]([][]byte{make([]byte, 100)}, make([]int, 1), make([]conn.Endpoint, 1))
		ended <- err
	}()
	b.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
	fns, _, _ = b.Open(0)
	b.Deliver(4, peer, transport(3))
	if got := readRing(t, fns[len(fns)-1], 128); len(got) != 1 {
		t.Errorf("%d packets after another Open", len(got))
	}
}

func TestRingIsBounded(t *testing.T) {
	r := newRing()
	for range 100 {
		r.push(nil, make([]byte, 60000))
	}
	if r.n != ringBytes/60000 || r.bytes != r.n*60000 {
		t.Errorf("%d packets of %d bytes", r.n, r.bytes)
	}
	bufs, sizes, eps := [][]byte{make([]byte, 1500), make([]byte, 65535)}, make([]int, 2), make([]conn.Endpoint, 2)
	if n := r.take(bufs, sizes, eps); n != 2 || sizes[0] != 0 || sizes[1] != 60000 {
		t.Errorf("%d packets, sizes %v", n, sizes)
	}
	r.clear()
	if r.n != 0 || r.bytes != 0 {
		t.Error("not empty")
	}
}

// Packets of a peer that came together wait together, in order, but for those
// that are not WireGuard's.
func TestDeliverAll(t *testing.T) {
	var stun, offers int
	b := newBind(Config{
		Relays:  &fakeRelays{},
		OnSTUN:  func([]byte, netip.AddrPort) { stun++ },
		OnOffer: func(uint16, key.Public, []byte) { offers++ },
	}, &fakeSocket{})
	peer := newPeer()
	b.endpoint(peer)
	b.SetRoute(peer, Route{Path: relaypath.Addr(4)})
	fns, _, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	fn := fns[len(fns)-1]
	var packets [][]byte
	for i := range 3 * ringRun {
		packets = append(packets, message(4, 64, byte(i)))
	}
	mixed := append([][]byte{stunMessage(0)}, packets[:40]...)
	mixed = append(append(mixed, []byte{relaypath.Offer, 1}, nil), packets[40:]...)
	b.DeliverAll(4, peer, mixed)
	b.DeliverAll(0, peer, packets)
	b.DeliverAll(4, peer, nil)
	var got []packet
	for len(got) < len(packets) {
		got = append(got, readRing(t, fn, 50)...)
	}
	for i, p := range got {
		if !bytes.Equal(p.data, packets[i]) || p.from != got[0].from {
			t.Fatalf("packet %d is %x", i, p.data)
		}
	}
	if s := b.Stats(); len(got) != len(packets) || stun != 1 || offers != 1 || s.DroppedRing != 0 {
		t.Errorf("%d packets, %d STUN, %d offers, %d dropped", len(got), stun, offers, s.DroppedRing)
	}
	bufs, sizes, eps := buffers(128, 2048)
	pass := func() {
		b.DeliverAll(4, peer, packets)
		if n, err := fn(bufs, sizes, eps); n != len(packets) || err != nil {
			t.Fatalf("%d packets: %v", n, err)
		}
	}
	if allocations := testing.AllocsPerRun(50, pass); allocations >= 1 && !poolsLose() {
		t.Errorf("%v allocations for %d packets", allocations, len(packets))
	}
}

// Whoever waits for the ring is told of all that comes, and each packet is
// read or counted as dropped.
func TestRingLosesNoWakeUp(t *testing.T) {
	b := newBind(Config{Relays: &fakeRelays{}}, &fakeSocket{})
	peer := newPeer()
	b.SetRoute(peer, Route{Path: relaypath.Addr(4)})
	fns, _, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	const rounds = 2000
	last := make(chan byte)
	read := 0
	go func() {
		defer close(last)
		bufs, sizes, eps := buffers(16, 2048)
		for {
			n, err := fns[len(fns)-1](bufs, sizes, eps)
			if err != nil {
				return
			}
			read += n
			if mark := bufs[n-1][63]; mark != 0 {
				last <- mark
			}
		}
	}()
	for i := range rounds {
		mark := byte(1 + i%200)
		var packets [][]byte
		for range i % 50 {
			packets = append(packets, message(4, 64, 0))
		}
		b.DeliverAll(4, peer, append(packets, message(4, 64, mark)))
		if got := <-last; got != mark {
			t.Fatalf("read up to %d, want %d", got, mark)
		}
	}
	b.Close()
	<-last
	want := 0
	for i := range rounds {
		want += 1 + i%50
	}
	if read != want {
		t.Errorf("%d packets of %d", read, want)
	}
}
