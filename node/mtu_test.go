package node

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	"nexd/controlapi"
	"nexd/key"
)

// toldStack keeps what a stack is told.
type toldStack struct {
	mtus  map[netip.Addr]int
	moved []netip.Addr
}

func (s *toldStack) SetPathMTU(to netip.Addr, mtu int) {
	if s.mtus[to] = mtu; mtu == 0 {
		delete(s.mtus, to)
	}
}

func (s *toldStack) PathMoved(to netip.Addr) { s.moved = append(s.moved, to) }

// The stack hears of each new path, by all addresses of the member, and once.
func TestPathsFollowMembers(t *testing.T) {
	var got toldStack
	s := newSizes(&got)
	a := key.NewPrivate().Public()
	list := []netip.Addr{netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("fd00::1")}
	s.members([]controlapi.Device{{PublicKey: a, Addresses: list}})
	one, other := netip.MustParseAddrPort("192.0.2.1:1"), netip.MustParseAddrPort("192.0.2.2:1")
	for i, step := range []struct {
		path netip.AddrPort
		told bool
	}{{one, true}, {one, false}, {other, true}, {netip.AddrPort{}, false}, {other, true}} {
		got.moved = nil
		s.path(a, step.path)
		if step.told != slices.Equal(got.moved, list) || !step.told && got.moved != nil {
			t.Errorf("step %d: %v", i, got.moved)
		}
	}
}

func TestSizesFollowMembers(t *testing.T) {
	got := toldStack{mtus: map[netip.Addr]int{}}
	s := newSizes(&got)
	a, b, c := key.NewPrivate().Public(), key.NewPrivate().Public(), key.NewPrivate().Public()
	one, two, three, six := netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("100.64.0.3"), netip.MustParseAddr("fd00::1")
	device := func(k key.Public, addrs ...netip.Addr) controlapi.Device {
		return controlapi.Device{PublicKey: k, Addresses: addrs}
	}
	want := func(when string, w map[netip.Addr]int) {
		t.Helper()
		if !maps.Equal(got.mtus, w) {
			t.Errorf("%s: %v, want %v", when, got.mtus, w)
		}
	}
	s.members([]controlapi.Device{device(a, one, six), device(b, two), device(c, three)})
	want("nobody was talked to", map[netip.Addr]int{})
	s.used(a)
	s.used(b)
	want("the first packets", map[netip.Addr]int{one: 1280, six: 1280, two: 1280})
	s.tell(a, 1440)
	s.used(a)
	want("one proved", map[netip.Addr]int{one: 1440, six: 1440, two: 1280})
	s.members([]controlapi.Device{device(a, two), device(b, one), device(c, three)})
	want("addresses changed hands", map[netip.Addr]int{two: 1440, one: 1280})
	s.members([]controlapi.Device{device(a, two), device(c, three)})
	s.tell(b, 0)
	want("one has left", map[netip.Addr]int{two: 1440})
	if s.of(a) != 1440 || s.of(b) != 0 || s.of(c) != 0 {
		t.Errorf("%d, %d, %d", s.of(a), s.of(b), s.of(c))
	}
}
