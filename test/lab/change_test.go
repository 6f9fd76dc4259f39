//go:build linux

package lab

import (
	"crypto/rand"
	"net"
	"net/netip"
	"testing"
	"time"

	"nexd/test/netns"
)

// listen opens a socket in a host for the length of the test.
func listen(t *testing.T, h *netns.Host, network string) *net.UDPConn {
	t.Helper()
	c, err := netns.Inside(h, func() (*net.UDPConn, error) { return net.ListenUDP(network, nil) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// at returns the endpoint of a socket of a host with the address addr.
func at(c *net.UDPConn, addr netip.Addr) netip.AddrPort {
	return netip.AddrPortFrom(addr, uint16(c.LocalAddr().(*net.UDPAddr).Port))
}

// mappedBy asks what a STUN server sees of a socket.
func mappedBy(t *testing.T, c *net.UDPConn) netip.AddrPort {
	t.Helper()
	m, err := askSTUN(c, netip.AddrPortFrom(pubAddrs[0], stunPorts[0]), 0)
	if err != nil {
		t.Fatal("no answer of the STUN server")
	}
	return m
}

// arrives reports whether a packet sent from one socket to an address comes out
// of another, and from where it seems to come.
func arrives(from *net.UDPConn, to netip.AddrPort, out *net.UDPConn) (netip.AddrPort, bool) {
	word := rand.Text()
	packet := make([]byte, 2048)
	for range answerless {
		from.WriteToUDPAddrPort([]byte(word), to)
		out.SetReadDeadline(time.Now().Add(answerTime))
		for {
			n, src, err := out.ReadFromUDPAddrPort(packet)
			if err != nil {
				break
			}
			if string(packet[:n]) == word {
				return netip.AddrPortFrom(src.Addr().Unmap(), src.Port()), true
			}
		}
	}
	return netip.AddrPort{}, false
}

// want fails the test unless a packet arrives, or does not.
func want(t *testing.T, what string, from *net.UDPConn, to netip.AddrPort, out *net.UDPConn, yes bool) netip.AddrPort {
	t.Helper()
	src, ok := arrives(from, to, out)
	if ok != yes {
		t.Errorf("%s: arrives %t, want %t", what, ok, yes)
	}
	return src
}

func TestRebindFlushRoam(t *testing.T) {
	t.Parallel()
	l := New(t)
	home := l.Site(FullCone, Options{})
	flat := l.Site(CGNAT, Options{Inner: FullCone})
	pub, in, deep := listen(t, l.Pub, "udp4"), listen(t, home.Node(1).Host, "udp4"), listen(t, flat.Node(1).Host, "udp4")

	first := mappedBy(t, in)
	want(t, "full cone", pub, first, in, true)

	home.Rebind()
	want(t, "old mapping after a rebind", pub, first, in, false)
	second := mappedBy(t, in)
	if second.Addr() != first.Addr() || second.Port() == first.Port() {
		t.Errorf("after a rebind %s, before %s", second, first)
	}
	want(t, "new mapping after a rebind", pub, second, in, true)

	home.Flush()
	want(t, "mapping after a flush", pub, second, in, false)
	if third := mappedBy(t, in); third != second {
		t.Errorf("after a flush %s, before %s", third, second)
	}
	want(t, "mapping after a flush and a packet", pub, second, in, true)

	home.Roam()
	want(t, "old address after a roam", pub, second, in, false)
	fourth := mappedBy(t, in)
	if fourth.Addr() == second.Addr() || fourth.Addr() != home.Outside() {
		t.Errorf("after a roam %s, before %s; the site says %s", fourth, second, home.Outside())
	}
	want(t, "new address after a roam", pub, fourth, in, true)

	// Behind a carrier the outside stays, the mapping does not.
	before := mappedBy(t, deep)
	want(t, "behind a carrier", pub, before, deep, true)
	flat.Roam()
	want(t, "behind a carrier after a roam", pub, before, deep, false)
	after := mappedBy(t, deep)
	if after.Addr() != before.Addr() {
		t.Errorf("the carrier's address changed from %s to %s", before, after)
	}
	want(t, "behind a carrier after a roam and a packet", pub, after, deep, true)
}

// Sites without NAT roam and forget, too.
func TestPublicSites(t *testing.T) {
	t.Parallel()
	l := New(t)
	open, fw := l.Site(Public, Options{}), l.Site(Firewall, Options{})
	pub := listen(t, l.Pub, "udp4")
	in, walled := listen(t, open.Node(1).Host, "udp4"), listen(t, fw.Node(1).Host, "udp4")
	pubAt := at(pub, pubAddrs[0])

	old := open.Node(1).V4
	open.Roam()
	if open.Node(1).V4 == old {
		t.Fatalf("still %s", old)
	}
	want(t, "the old address", pub, at(in, old), in, false)
	src := want(t, "from the new address", in, pubAt, pub, true)
	if src.Addr() != open.Node(1).V4 {
		t.Errorf("comes from %s, is %s", src, open.Node(1).V4)
	}
	want(t, "the new address", pub, at(in, open.Node(1).V4), in, true)

	want(t, "unasked into the firewall", pub, at(walled, fw.Node(1).V4), walled, false)
	want(t, "out of the firewall", walled, pubAt, pub, true)
	want(t, "an answer into the firewall", pub, at(walled, fw.Node(1).V4), walled, true)
	fw.Flush()
	want(t, "into the firewall that forgot", pub, at(walled, fw.Node(1).V4), walled, false)
}

func TestBlock(t *testing.T) {
	t.Parallel()
	l := New(t)
	a, b, third := l.Site(Public, Options{}), l.Site(Public, Options{}), l.Site(Public, Options{})
	ca, cb, cc := listen(t, a.Node(1).Host, "udp4"), listen(t, b.Node(1).Host, "udp4"), listen(t, third.Node(1).Host, "udp4")
	ea, eb, ec := at(ca, a.Node(1).V4), at(cb, b.Node(1).V4), at(cc, third.Node(1).V4)
	both := func(what string, ab, ba bool) {
		t.Helper()
		want(t, what+": a to b", ca, eb, cb, ab)
		want(t, what+": b to a", cb, ea, ca, ba)
		want(t, what+": a to the third", ca, ec, cc, true)
		want(t, what+": the third to b", cc, eb, cb, true)
	}
	both("free", true, true)
	l.Block(a, b)
	both("blocked", false, false)
	l.Unblock(b, a)
	both("unblocked", true, true)
	l.BlockOneWay(b, a)
	both("one way", true, false)
	l.Unblock(a, b)
	both("free again", true, true)
}

func TestUDPBlockAndLink(t *testing.T) {
	t.Parallel()
	l := New(t)
	home := l.Site(PortRestricted, Options{V6: OpenV6})
	pub, in := listen(t, l.Pub, "udp4"), listen(t, home.Node(1).Host, "udp4")
	pub6, in6 := listen(t, l.Pub, "udp6"), listen(t, home.Node(1).Host, "udp6")
	pubAt, pub6At := at(pub, pubAddrs[0]), at(pub6, pubAddrs[2])
	mapped := want(t, "out", in, pubAt, pub, true)
	want(t, "out over IPv6", in6, pub6At, pub6, true)

	home.UDPBlock()
	want(t, "out of the UDP block", in, pubAt, pub, false)
	want(t, "into the UDP block", pub, mapped, in, false)
	want(t, "out of the UDP block over IPv6", in6, pub6At, pub6, false)
	if !home.Node(1).tcp443() {
		t.Error("the UDP block stops TCP")
	}
	home.UDPUnblock()
	want(t, "in after the UDP block: the mapping lives", pub, mapped, in, true)

	home.LinkDown()
	want(t, "without a cable", in, pubAt, pub, false)
	want(t, "without a cable over IPv6", in6, pub6At, pub6, false)
	home.LinkUp()
	if again := want(t, "with the cable again", in, pubAt, pub, true); again != mapped {
		t.Errorf("seen as %s, before %s", again, mapped)
	}
	want(t, "with the cable again over IPv6", in6, pub6At, pub6, true)
}

func TestIPv6(t *testing.T) {
	t.Parallel()
	l := New(t)
	open, walled := l.Site(Symmetric, Options{V6: OpenV6}), l.Site(PortRestricted, Options{V6: FirewalledV6})
	co, cw := listen(t, open.Node(1).Host, "udp6"), listen(t, walled.Node(1).Host, "udp6")
	eo, ew := at(co, open.Node(1).V6), at(cw, walled.Node(1).V6)
	want(t, "unasked into the firewall", co, ew, cw, false)
	if src := want(t, "out of the firewall", cw, eo, co, true); src != ew {
		t.Errorf("comes from %s, is %s", src, ew)
	}
	want(t, "an answer into the firewall", co, ew, cw, true)
	if m, err := askSTUN(cw, l.STUN()[2], 0); err != nil || m != ew {
		t.Errorf("STUN sees %s, %v; it is %s", m, err, ew)
	}
}

func TestMove(t *testing.T) {
	t.Parallel()
	l := New(t)
	// Two LANs with the same addresses, as homes have.
	lan := netip.MustParsePrefix("192.168.1.0/24")
	from, to := l.Site(FullCone, Options{LAN: lan, Nodes: 2}), l.Site(FullCone, Options{LAN: lan})
	n := from.Node(1)
	in := listen(t, n.Host, "udp4")
	neighbour := listen(t, from.Node(2).Host, "udp4")
	want(t, "over the LAN", neighbour, at(in, n.V4), in, true)
	if m := mappedBy(t, in); m.Addr() != from.Outside() {
		t.Errorf("seen as %s, want %s", m, from.Outside())
	}
	l.Move(n, to)
	if n.Site() != to || len(from.Nodes()) != 1 || len(to.Nodes()) != 2 {
		t.Fatal("the lab does not know where the node is")
	}
	if m := mappedBy(t, in); m.Addr() != to.Outside() {
		t.Errorf("seen as %s, want %s", m, to.Outside())
	}
	want(t, "over the LAN it left", neighbour, at(in, n.V4), in, false)
	want(t, "over the LAN it is in", listen(t, to.Node(1).Host, "udp4"), at(in, n.V4), in, true)
}

// Mappings end by themselves; what keeps them alive is an option.
func TestTimeout(t *testing.T) {
	t.Parallel()
	l := New(t)
	// More than a stall of the machine in which nothing is sent, and time to be seen
	// beyond it.
	const life, longer = 5 * time.Second, 4 * time.Second
	sites := []*Site{
		l.Site(FullCone, Options{}),
		l.Site(FullCone, Options{OutboundRefresh: true}),
		l.Site(PortRestricted, Options{}),
		l.Site(PortRestricted, Options{OutboundRefresh: true}),
	}
	each(sites, func(s *Site) {
		s.Timeout(life)
		pub, in, idle := listen(t, l.Pub, "udp4"), listen(t, s.Node(1).Host, "udp4"), listen(t, s.Node(1).Host, "udp4")
		mapped := want(t, s.Kind.String(), in, at(pub, pubAddrs[0]), pub, true)
		quiet := want(t, s.Kind.String(), idle, at(pub, pubAddrs[0]), pub, true)
		// One is sent to all the time, the other one is left alone.
		var last time.Duration
		for start := time.Now(); time.Since(start) < life+longer; {
			sent := time.Since(start)
			if _, ok := arrives(pub, mapped, in); ok {
				last = sent
				time.Sleep(answerTime) // between the packets; those that fail wait by themselves
			}
		}
		if alive := last > life+time.Second; alive == s.options.OutboundRefresh {
			t.Errorf("%s, outbound refresh %t: packets came in for %s of %s", s.Kind, s.options.OutboundRefresh, last, life+longer)
		}
		want(t, s.Kind.String()+" idle", pub, quiet, idle, false)
	})
}
