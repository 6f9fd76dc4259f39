package bind

import (
	"net/netip"
	"testing"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/relaypath"
	"nexd/key"
)

// udpRelays frames packets as [fakeRelays] reads them and writes them to the
// far socket, as relay clients do; without allocations.
type udpRelays struct {
	fakeRelays
	bind   *Bind
	to     netip.AddrPort
	head   []byte // the sender's key
	buf    []byte
	frames [][]byte
}

func (u *udpRelays) Send(relay uint16, _ key.Public, packets [][]byte) (int, bool) {
	u.buf, u.frames = u.buf[:0], u.frames[:0]
	for _, p := range packets {
		at := len(u.buf)
		u.buf = append(u.buf, 0xC0, byte(relay>>8), byte(relay))
		u.buf = append(append(u.buf, u.head...), p...)
		u.frames = append(u.frames, u.buf[at:len(u.buf):len(u.buf)])
	}
	if u.bind.WriteUDP(u.frames, u.to) != nil {
		return 0, false
	}
	return len(packets), false
}

// Batches pass the whole of it, directly and through relays, without an
// allocation for a packet.
func TestBatchesAllocateNothing(t *testing.T) {
	relays := &udpRelays{buf: make([]byte, 0, 1<<17)}
	a, b := New(Config{Relays: relays}), New(Config{Relays: &fakeRelays{}})
	relays.bind = a
	from, here := newPeer(), newPeer()
	relays.head = from.Bytes()
	receivers, port := openBoth(t, a, b)
	to := local(false, port).AddrPort
	relays.to = to
	setPath(b, from, netip.AddrPortFrom(to.Addr(), a.Port()))
	setPath(a, here, to)
	var sent [][]byte
	for range 44 {
		p := make([]byte, 1400)
		copy(p, transport(7))
		sent = append(sent, p)
	}
	bufs, sizes, eps := buffers(128, 2048)
	pass := func(ep conn.Endpoint) {
		if err := a.Send(sent, ep); err != nil {
			t.Fatal(err)
		}
		for got := 0; got < len(sent); {
			n, err := receivers[0](bufs, sizes, eps)
			if err != nil {
				t.Fatal(err)
			}
			for _, size := range sizes[:n] {
				if size == 1400 {
					got++
				}
			}
		}
	}
	peer := a.endpoint(here)
	for name, route := range map[string]Route{
		"direct":  {Path: to},
		"relayed": {Path: relaypath.Addr(3)},
	} {
		a.SetRoute(here, route)
		pass(peer)
		allocations := testing.AllocsPerRun(50, func() { pass(peer) })
		if allocations >= 1 && !poolsLose() {
			t.Errorf("%s: %v allocations for %d packets", name, allocations, len(sent))
		}
	}
}

// poolsLose reports whether a sync.Pool loses things on purpose (under -race).
func poolsLose() bool {
	return testing.AllocsPerRun(1, func() {
		for range 10_000 { // more than it may hold
			ringBuffers.Put(ringBuffers.Get())
		}
	}) > 0
}

func openBoth(t *testing.T, a, b *Bind) ([]conn.ReceiveFunc, uint16) {
	t.Helper()
	for _, one := range []*Bind{a, b} {
		t.Cleanup(func() { one.Close() })
	}
	if _, _, err := a.Open(0); err != nil {
		t.Fatal(err)
	}
	fns, port, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	return fns, port
}

func TestRelaysKeepTheirWays(t *testing.T) {
	var all ways
	one, two := netip.MustParseAddrPort("192.0.2.1:3478"), netip.MustParseAddrPort("192.0.2.2:3478")
	first := all.to(one)
	if got := testing.AllocsPerRun(100, func() { all.to(one); all.to(two) }); got != 0 {
		t.Errorf("%v allocations", got)
	}
	if all.to(one) != first || all.to(two) == first || all.to(two).addr != two {
		t.Error("ways are mixed up")
	}
	for i := range 1000 { // more than there are places
		if a := netip.AddrPortFrom(one.Addr(), uint16(i+1)); all.to(a).addr != a {
			t.Fatalf("%s: got %s", a, all.to(a).addr)
		}
	}
}
