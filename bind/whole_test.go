package bind

import (
	"errors"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/relaypath"
	"nexd/key"
)

// wholeSocket is a fake that sends whole what fits.
type wholeSocket struct {
	*fakeSocket
	now bool // in a call of whole
}

func (w *wholeSocket) whole(do func() error) error {
	w.now = true
	defer func() { w.now = false }()
	return do()
}

func TestWriteWhole(t *testing.T) {
	const fits = 1472
	w := &wholeSocket{fakeSocket: &fakeSocket{}}
	w.onSend = func(bufs [][]byte, _ *conn.StdNetEndpoint) error {
		if w.now && len(bufs[0]) > fits {
			return syscall.EMSGSIZE
		}
		return nil
	}
	relays := &wholeRelays{to: netip.MustParseAddrPort("192.0.2.9:3478")}
	b := newBind(Config{Relays: relays}, w)
	relays.bind = b
	if _, _, err := b.Open(4242); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	peer := newPeer()
	for _, to := range []netip.AddrPort{here, relaypath.Addr(5)} {
		if err := b.WriteWhole(stunMessage(fits-100), peer, to); err != nil {
			t.Errorf("to %s: %v", to, err)
		}
		if err := b.WriteWhole(stunMessage(fits), peer, to); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("to %s: %v, want EMSGSIZE", to, err)
		}
		if got := len(w.take()); got != 1 {
			t.Errorf("to %s: %d packets left", to, got)
		}
	}
	relays.to = netip.AddrPort{}
	if err := b.WriteWhole(stunMessage(fits), peer, relaypath.Addr(5)); err == nil || errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("a relay without a session: %v", err)
	}
	if err := opened(t, &fakeSocket{}, Config{}).WriteWhole(stunMessage(0), peer, here); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("a socket that cannot: %v", err)
	}
}

// wholeRelays frames packets for one relay, as a relay's client does.
type wholeRelays struct {
	Relays
	bind *Bind
	to   netip.AddrPort
}

func (r *wholeRelays) Send(_ uint16, _ key.Public, packets [][]byte) (int, bool) {
	if r.bind.WriteUDP([][]byte{append(make([]byte, 8), packets[0]...)}, r.to) != nil {
		return 0, false
	}
	return 1, false
}

// TestLarge: a packet that only some paths carry is noted.
func TestLarge(t *testing.T) {
	b := opened(t, &fakeSocket{}, Config{})
	peer := newPeer()
	e := peerEndpoint(t, b, peer)
	setPath(b, peer, here)
	if err := b.Send([][]byte{message(4, safeSize, 1), message(4, 64, 2)}, e); err != nil || !b.Activity(peer).LastLarge.IsZero() {
		t.Errorf("%+v, %v", b.Activity(peer), err)
	}
	if err := b.Send([][]byte{message(4, 64, 1), message(4, safeSize+16, 2)}, e); err != nil || time.Since(b.Activity(peer).LastLarge) > time.Minute {
		t.Errorf("%+v, %v", b.Activity(peer), err)
	}
}

// TestSmallerSegmentsAreABatch: a batch that was refused for its segments' size
// says nothing of smaller ones.
func TestSmallerSegmentsAreABatch(t *testing.T) {
	f := &fakeSocket{}
	var calls []int
	f.onSend = func(bufs [][]byte, _ *conn.StdNetEndpoint) error {
		if calls = append(calls, len(bufs)); len(bufs) > 1 && len(bufs[0]) > 1400 {
			return syscall.EINVAL
		}
		return nil
	}
	b := opened(t, f, Config{})
	peer := newPeer()
	e := peerEndpoint(t, b, peer)
	setPath(b, peer, here)
	for _, size := range []int{1440, 1440, 1312, 1312} {
		if err := b.Send([][]byte{message(4, size, 1), message(4, size, 2)}, e); err != nil {
			t.Fatal(err)
		}
	}
	want := []int{2, 1, 1, 1, 1, 2, 2} // refused and sent one by one, not tried again, smaller ones at once
	if len(calls) != len(want) {
		t.Fatalf("sends of %v packets, want %v", calls, want)
	}
	for i := range want {
		if calls[i] != want[i] {
			t.Fatalf("sends of %v packets, want %v", calls, want)
		}
	}
}
