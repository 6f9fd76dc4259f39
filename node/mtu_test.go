package node

import (
	"maps"
	"net/netip"
	"testing"

	"nexd/controlapi"
	"nexd/key"
)

func TestSizesFollowMembers(t *testing.T) {
	got := map[netip.Addr]int{}
	s := newSizes(func(to netip.Addr, mtu int) {
		if got[to] = mtu; mtu == 0 {
			delete(got, to)
		}
	})
	a, b, c := key.NewPrivate().Public(), key.NewPrivate().Public(), key.NewPrivate().Public()
	one, two, three, six := netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("100.64.0.3"), netip.MustParseAddr("fd00::1")
	device := func(k key.Public, addrs ...netip.Addr) controlapi.Device {
		return controlapi.Device{PublicKey: k, Addresses: addrs}
	}
	want := func(when string, w map[netip.Addr]int) {
		t.Helper()
		if !maps.Equal(got, w) {
			t.Errorf("%s: %v, want %v", when, got, w)
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
