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
