package node

import (
	"maps"
	"net/netip"
	"testing"

	"nexd/controlapi"
	"nexd/key"
)

// A member that left and came back before discovery had looked is small until
// discovery says more: to forget it is then to forget what its path carried.
func TestSizesOfMemberThatIsBack(t *testing.T) {
	got := toldStack{mtus: map[netip.Addr]int{}}
	s := newSizes(&got)
	a, one := key.NewPrivate().Public(), netip.MustParseAddr("100.64.0.1")
	list := []controlapi.Device{{PublicKey: a, Addresses: []netip.Addr{one}}}
	s.members(list)
	s.used(a)
	s.tell(a, 1440)
	s.members(nil)
	s.members(list)
	s.used(a)
	s.tell(a, 0) // of its first life
	if want := map[netip.Addr]int{one: 1280}; !maps.Equal(got.mtus, want) {
		t.Errorf("%v, want %v", got.mtus, want)
	}
	s.members(nil)
	s.tell(a, 0)
	if len(got.mtus) != 0 || s.of(a) != 0 {
		t.Errorf("of a member that left: %v, %d", got.mtus, s.of(a))
	}
}
