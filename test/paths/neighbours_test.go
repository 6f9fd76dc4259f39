//go:build linux

package paths

import (
	"net/netip"
	"testing"
	"time"

	"nexd/localapi"
	"nexd/test/lab"
)

// at is where a member's direct path to a peer leads.
func at(t *testing.T, m, peer *Member) netip.AddrPort {
	t.Helper()
	p, err := m.Path(peer)
	if err != nil {
		t.Fatal(err)
	}
	a, err := netip.ParseAddrPort(p.Endpoint)
	if err != nil {
		t.Fatalf("%s reaches %s by %s", m.Name, peer.Name, Show(p))
	}
	return a
}

// meets wants data through a local port of a, and then a path of a kind both
// ways.
func meets(t *testing.T, a *Member, port int, b *Member, kind string) {
	t.Helper()
	if _, _, err := Say(a, port, 20*time.Second); err != nil {
		t.Fatalf("%s → %s: %v", a.Name, b.Name, err)
	}
	beat, err := NewBeat(a, "udp", port) // the pair is in use
	if err != nil {
		t.Fatal(err)
	}
	defer beat.Close()
	if err := Reaches(a, b, kind, time.Minute); err != nil {
		t.Fatal(err)
	}
}

// Whoever is near, or has another way than through two NATs, is reached there.
func TestNeighbours(t *testing.T) {
	t.Parallel()
	w := New(t)
	join := func(s *lab.Site, k int, args ...string) *Member {
		Serve(t, s.Node(k).Host)
		return w.Join(s.Node(k), args...)
	}
	// One LAN behind a NAT without hairpin.
	flat := w.Site(lab.PortRestricted, lab.Options{Name: "flat", Nodes: 2})
	flat1, flat2 := join(flat, 1, To(7001, "flat2")...), join(flat, 2)
	// One LAN again; the two have the same port, and a peer with a public address.
	samePort := []string{"--listen-port", "51820"}
	same := w.Site(lab.PortRestricted, lab.Options{Name: "same", Nodes: 2})
	open := w.Site(lab.Public, lab.Options{Name: "open"})
	same1 := join(same, 1, append(append(samePort, To(7001, "same2")...), To(7002, "open1")...)...)
	same2 := join(same, 2, append(samePort, To(7002, "open1")...)...)
	open1 := join(open, 1)
	// No way over IPv4, and stateful firewalls for IPv6.
	six := w.Site(lab.Symmetric, lab.Options{Name: "six", V6: lab.FirewalledV6})
	seven := w.Site(lab.Symmetric, lab.Options{Name: "seven", V6: lab.FirewalledV6})
	six1, seven1 := join(six, 1, To(7001, "seven1")...), join(seven, 1)
	// Homes of a carrier that turns packets round, and of one that does not.
	var homes [2][2]*Member
	for i, hairpin := range []bool{true, false} {
		c := w.Carrier(lab.FullCone, lab.Options{Hairpin: hairpin})
		name := [2]string{"hair", "bald"}[i]
		one := w.Site(lab.PortRestricted, lab.Options{Name: name + "a", Via: c})
		two := w.Site(lab.PortRestricted, lab.Options{Name: name + "b", Via: c})
		homes[i] = [2]*Member{join(one, 1, To(7001, name+"b1")...), join(two, 1)}
	}
	// Two homes whose LANs have the same addresses.
	lan := netip.MustParsePrefix("192.168.1.0/24")
	ours := w.Site(lab.PortRestricted, lab.Options{Name: "ours", LAN: lan})
	theirs := w.Site(lab.PortRestricted, lab.Options{Name: "theirs", LAN: lan})
	ours1, theirs1 := join(ours, 1, To(7001, "theirs1")...), join(theirs, 1)

	members := []*Member{flat1, flat2, same1, same2, open1, six1, seven1, ours1, theirs1}
	members = append(append(members, homes[0][:]...), homes[1][:]...)

	// A NAT that nobody punches through, but its router gives out ports.
	hard := w.Site(lab.Symmetric, lab.Options{Name: "hard", PortMapping: true})
	soft := w.Site(lab.PortRestricted, lab.Options{Name: "soft"})
	asks, easy := join(hard, 1, append(To(7001, "soft1"), "--port-mapping")...), join(soft, 1)
	members = append(members, asks, easy)
	ready(members...)
	onRelay(t, members...)

	t.Run("LAN", func(t *testing.T) {
		t.Parallel()
		meets(t, flat1, 7001, flat2, localapi.PathDirect)
		if a, b := at(t, flat1, flat2), at(t, flat2, flat1); a.Addr() != flat2.At.V4 || b.Addr() != flat1.At.V4 {
			t.Errorf("the path leads to %s and back to %s, not over the LAN", a, b)
		}
	})
	t.Run("one port", func(t *testing.T) {
		t.Parallel()
		meets(t, same1, 7001, same2, localapi.PathDirect)
		meets(t, same1, 7002, open1, localapi.PathDirect)
		meets(t, same2, 7002, open1, localapi.PathDirect)
		if a, b := at(t, open1, same1), at(t, open1, same2); a == b || a.Addr() != same.Outside() || b.Addr() != same.Outside() {
			t.Errorf("seen from outside they are %s and %s, want two ports of %s", a, b, same.Outside())
		}
	})
	t.Run("IPv6", func(t *testing.T) {
		t.Parallel()
		meets(t, six1, 7001, seven1, localapi.PathDirect)
		if a, b := at(t, six1, seven1), at(t, seven1, six1); a.Addr() != seven1.At.V6 || b.Addr() != six1.At.V6 {
			t.Errorf("the path leads to %s and back to %s, want IPv6", a, b)
		}
	})
	t.Run("a carrier with hairpin", func(t *testing.T) {
		t.Parallel()
		a, b := homes[0][0], homes[0][1]
		meets(t, a, 7001, b, localapi.PathDirect)
		if x := at(t, a, b); x.Addr() != b.At.Site().Outside() {
			t.Errorf("the path leads to %s, want the carrier's %s", x, b.At.Site().Outside())
		}
	})
	t.Run("a carrier without", func(t *testing.T) {
		t.Parallel()
		meets(t, homes[1][0], 7001, homes[1][1], localapi.PathRelay)
	})
	t.Run("the same addresses", func(t *testing.T) {
		t.Parallel()
		meets(t, ours1, 7001, theirs1, localapi.PathDirect)
		if a, b := at(t, ours1, theirs1), at(t, theirs1, ours1); a.Addr() != theirs.Outside() || b.Addr() != ours.Outside() {
			t.Errorf("the path leads to %s and back to %s", a, b)
		}
	})
	t.Run("port mapping", func(t *testing.T) {
		t.Parallel()
		meets(t, asks, 7001, easy, localapi.PathDirect)
		if a := at(t, easy, asks); a.Addr() != asks.At.Site().Outside() {
			t.Errorf("the path leads to %s, want a port of %s", a, asks.At.Site().Outside())
		}
	})
}

// Who allows it guesses the ports of hard NATs, within a budget, with those who
// allow it, too.
func TestHardNATs(t *testing.T) {
	t.Parallel()
	w := New(t)
	var measure []string // two servers that see what a NAT makes of two destinations
	for _, s := range w.STUN() {
		measure = append(measure, "--stun-server", s.String())
	}
	type pair struct{ a, b *Member }
	join := func(hard, easy lab.Kind, alone bool) pair {
		sa, sb := w.Site(hard, lab.Options{}), w.Site(easy, lab.Options{})
		Serve(t, sb.Node(1).Host)
		args := append([]string{"--punch-hard-nat"}, measure...)
		others := args
		if alone {
			others = measure
		}
		return pair{w.Join(sa.Node(1), append(To(7001, sb.Node(1).Name), args...)...), w.Join(sb.Node(1), others...)}
	}
	counting := []pair{
		join(lab.SymmetricSequential, lab.PortRestricted, false),
		join(lab.SymmetricSequential, lab.SymmetricSequential, false),
	}
	random := []pair{join(lab.Symmetric, lab.PortRestricted, false), join(lab.SymmetricAddr, lab.StrictPortRestricted, false)}
	alone := []pair{join(lab.SymmetricSequential, lab.PortRestricted, true), join(lab.Symmetric, lab.PortRestricted, true)}
	all := append(append(counting[:2:2], random...), alone...)
	for _, p := range all {
		ready(p.a, p.b)
		onRelay(t, p.a, p.b)
	}
	began := time.Now()
	for _, p := range all {
		if _, _, err := Say(p.a, 7001, 20*time.Second); err != nil {
			t.Fatalf("%s → %s: %v", p.a.Name, p.b.Name, err)
		}
		beat, err := NewBeat(p.a, "udp", 7001)
		if err != nil {
			t.Fatal(err)
		}
		defer beat.Close()
	}
	for i, p := range counting {
		if err := Reaches(p.a, p.b, localapi.PathDirect, time.Minute); err != nil {
			t.Errorf("a NAT that counts: %v", err)
		} else {
			t.Logf("counting %d: direct after %s", i, time.Since(began))
		}
	}
	// Of the random ones a round finds all but two in a hundred: one of these at least.
	found := map[int]bool{}
	err := Until(30*time.Second, func() (missing error) {
		for i, p := range random {
			if found[i] {
				continue
			}
			if err := Reaches(p.a, p.b, localapi.PathDirect, 0); err != nil {
				missing = err
				continue
			}
			found[i] = true
			t.Logf("random %d: direct after %s", i, time.Since(began))
		}
		return missing
	})
	if len(found) == 0 {
		t.Errorf("random ports: %v", err)
	}
	for _, p := range alone {
		if err := Reaches(p.a, p.b, localapi.PathRelay, 0); err != nil {
			t.Errorf("one side allows it only: %v", err)
		}
	}
}
