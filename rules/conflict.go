package rules

import (
	"net/netip"
	"slices"
)

// meet says why r, a rule of spec, cannot stand beside old, which has its
// direction, protocol and port; nil when it can.
func meet(spec Spec, r, old Rule) error {
	switch {
	case r.sameEnds(old) && r.Options.Equal(old.Options):
		return setError(spec, "leave it out", "duplicate of %s", old)
	case r.sameEnds(old):
		return setError(spec, "remove that one first to change its options", "duplicate of %s with other options", old)
	case r.Bind == old.Bind && !slices.Equal(r.Options.Allow, old.Options.Allow):
		return setError(spec, "give both the same allow options: rules that balance share one listener",
			"its allow differs from that of %s", old)
	case r.Bind != old.Bind && overlap(r.Direction, r.Bind, old.Bind):
		return setError(spec, "use another port, or addresses apart from each other",
			"%s and %s would listen twice on %s port %d", listensOn(r), listensOn(old), r.Protocol, r.Port)
	}
	return nil
}

// overlap reports whether two different binds have an address in common.
func overlap(d Direction, a, b netip.Addr) bool {
	if !a.IsValid() {
		a, b = b, a
	}
	switch {
	case !b.IsValid() && d == Ingress:
		return true // every mesh address, and a is one of them
	case !b.IsValid():
		return a.IsUnspecified() || a == loopback4 || a == loopback6
	case a == unspecified6 || b == unspecified6:
		return true // both families
	}
	return a.Is4() == b.Is4() && (a.IsUnspecified() || b.IsUnspecified())
}

var (
	loopback4    = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6    = netip.IPv6Loopback()
	broadcast4   = netip.AddrFrom4([4]byte{255, 255, 255, 255})
	unspecified6 = netip.IPv6Unspecified()
)

// listensOn says in words where a rule listens.
func listensOn(r Rule) string {
	switch {
	case r.Bind.IsValid():
		return r.Bind.String()
	case r.Direction == Egress:
		return "127.0.0.1 and ::1 (no address given)"
	}
	return "every mesh address (no address given)"
}
