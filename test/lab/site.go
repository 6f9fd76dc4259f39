//go:build linux

package lab

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"time"

	"nexd/test/netns"
)

// V6 says what IPv6 a site has.
type V6 uint8

const (
	// NoV6 is none.
	NoV6 V6 = iota
	// OpenV6 is global addresses without a filter.
	OpenV6
	// FirewalledV6 is global addresses behind a stateful firewall.
	FirewalledV6
)

// Options of a site; the zero value is one node and nothing special.
type Options struct {
	// Name begins with a letter, at most 6 letters and digits; "": a, b, c, …
	Name string
	// Nodes is how many hosts the site has at the start; 0: one.
	Nodes int
	// Via is the carrier the site's router is a customer of; nil: the core.
	Via *Site
	// LAN is a /24 inside; invalid: one of its own. Sites may have the same.
	LAN netip.Prefix
	// V6 works at sites without a carrier.
	V6 V6
	// Hairpin lets nodes inside reach each other by their outside addresses; of
	// a CGNAT site at both routers.
	Hairpin bool
	// PortMapping runs a NAT-PMP server (RFC 6886) on the router.
	PortMapping bool
	// OutboundRefresh: only packets that go out keep a UDP mapping alive, not
	// those that come in (RFC 4787 REQ-6).
	OutboundRefresh bool
	// Inner and Outer are the kinds of the home router and of the carrier's NAT
	// of a CGNAT site; 0: PortRestricted and FullCone.
	Inner, Outer Kind
}

// Site is a router with nodes behind it.
type Site struct {
	Name string
	Kind Kind // as it was asked for

	lab     *Lab
	index   int  // from 1; its addresses follow from it
	nat     Kind // what the router does: of a CGNAT site the inner kind
	options Options
	carrier *Site // nil: the core
	nodes   []*Node

	router *netns.Host
	up     *netns.Host // where the cable ends: the core or the carrier's router
	upPort string      // the interface there; the router's is wan0

	lan      netip.Prefix // of the nodes
	uplink   netip.Prefix // between router and up
	outside  netip.Addr   // the router's on the uplink; NATs show this one
	nextHost int          // last byte of the next node's address
	homes    int          // customers of a carrier

	generation int           // of the NAT's ports
	timeout    time.Duration // of UDP mappings; 0: the kernel's own
	noUDP      bool
	mapper     *mapper
	cable      *wire // nil: a veth pair
}

var validName = regexp.MustCompile(`^[a-z][a-z0-9]{0,6}$`)

// Site adds a site with its nodes.
func (l *Lab) Site(kind Kind, o Options) *Site {
	l.t.Helper()
	s := &Site{Name: o.Name, Kind: kind, nat: kind, options: o, carrier: o.Via}
	if s.Name == "" {
		s.Name = l.freeName()
	}
	if kind == CGNAT {
		if s.nat = o.Inner; s.nat == 0 {
			s.nat = PortRestricted
		}
		outer := o.Outer
		if outer == 0 {
			outer = FullCone
		}
		s.carrier = l.Carrier(outer, Options{Name: s.Name + "c", Via: o.Via, Hairpin: o.Hairpin})
	}
	l.build(s, max(o.Nodes, 1))
	return s
}

// Carrier adds a NAT without nodes, for sites to be behind.
func (l *Lab) Carrier(kind Kind, o Options) *Site {
	l.t.Helper()
	s := &Site{Name: o.Name, Kind: kind, nat: kind, options: o, carrier: o.Via}
	if s.Name == "" {
		s.Name = l.freeName()
	}
	l.build(s, 0)
	return s
}

// freeName is the first of a … z, aa, … that no site has.
func (l *Lab) freeName() string {
	for i := 0; ; i++ {
		name := string(rune('a' + i%26))
		if i >= 26 {
			name = string(rune('a'+i/26-1)) + name
		}
		if _, err := l.SiteNamed(name); err != nil {
			return name
		}
	}
}

// check says why a site cannot be.
func (l *Lab) check(s *Site) error {
	_, taken := l.SiteNamed(s.Name)
	switch {
	case s.nat == 0 || s.nat > UDPBlocked || s.nat == CGNAT:
		return fmt.Errorf("a router of kind %s", s.nat)
	case !validName.MatchString(s.Name):
		return fmt.Errorf("its name must match %s", validName)
	case taken == nil:
		return fmt.Errorf("its name is taken")
	case len(l.sites) >= 250:
		return fmt.Errorf("250 sites are the limit")
	case s.carrier != nil && s.nat.public():
		return fmt.Errorf("a site with public addresses cannot be behind a carrier")
	case s.carrier != nil && s.options.V6 != NoV6:
		return fmt.Errorf("IPv6 needs a site without a carrier")
	case s.options.PortMapping && s.nat.public():
		return fmt.Errorf("port mapping needs a NAT")
	}
	return nil
}

// build makes the router, its cable and its nodes.
func (l *Lab) build(s *Site, nodes int) {
	l.t.Helper()
	s.lab, s.nextHost = l, 10
	if err := l.check(s); err != nil {
		l.t.Fatalf("site %s: %v", s.Name, err)
	}
	l.sites = append(l.sites, s)
	s.index = len(l.sites)
	s.number()

	names := []string{"r-" + s.Name}
	for i := range nodes {
		names = append(names, fmt.Sprintf("%s%d", s.Name, i+1))
	}
	hosts := l.set.Hosts(names...)
	s.router = hosts[0]
	forwards(s.router)
	s.router.IP("link add br0 type bridge", "link set br0 up")
	if nodes > 0 {
		s.router.IP(fmt.Sprintf("addr add %s/24 dev br0", hostOf(s.lan, 1)))
		if s.options.V6 != NoV6 {
			s.router.IP(fmt.Sprintf("addr add %s/64 dev br0 nodad", s.v6(1, 1)))
		}
	}
	s.up.IP(fmt.Sprintf("link add %s type veth peer name wan0 netns %s", s.upPort, s.router.NS))
	s.plug()
	s.up.Carrier(s.upPort)
	s.router.Carrier("wan0")
	s.router.NFT(s.natRules(nil) + s.filterRules())
	for _, h := range hosts[1:] {
		n := &Node{Host: h}
		s.attach(n)
	}
	if s.options.PortMapping {
		s.startMapper()
	}
}

// number gives the site its addresses.
func (s *Site) number() {
	outside := netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 18, byte(s.index), 0}), 24)
	s.up, s.upPort = s.lab.core, "s-"+s.Name
	s.uplink, s.lan = outside, netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 168, byte(100+s.index) % 255, 0}), 24)
	if s.options.LAN.IsValid() {
		s.lan = s.options.LAN.Masked()
	}
	if s.nat.public() {
		s.lan = outside
		s.uplink = netip.PrefixFrom(netip.AddrFrom4([4]byte{198, 19, byte(s.index), 0}), 24)
	}
	if c := s.carrier; c != nil {
		c.homes++
		s.up = c.router
		s.uplink = netip.PrefixFrom(netip.AddrFrom4([4]byte{100, 64 + byte(c.index)%64, byte(c.homes), 0}), 24)
	}
	s.outside = hostOf(s.uplink, 2)
}

// hostOf returns the address of a /24 that ends in last.
func hostOf(p netip.Prefix, last int) netip.Addr {
	a := p.Addr().As4()
	a[3] = byte(last)
	return netip.AddrFrom4(a)
}

// v6 returns an address of the site's subnet: 0 is the uplink, 1 the LAN.
func (s *Site) v6(subnet, host int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("2001:db8:%x:%x::%x", s.index, subnet, host))
}

// plug brings the cable's ends up with their addresses and routes. It may be
// repeated.
func (s *Site) plug() {
	s.lab.t.Helper()
	gateway := hostOf(s.uplink, 1)
	up := []string{
		fmt.Sprintf("link set %s up", s.upPort),
		fmt.Sprintf("addr replace %s/24 dev %s", gateway, s.upPort),
	}
	router := []string{
		"link set wan0 up",
		fmt.Sprintf("addr replace %s/24 dev wan0", s.outside),
		fmt.Sprintf("route replace default via %s", gateway),
	}
	if s.nat.public() {
		up = append(up, fmt.Sprintf("route replace %s via %s", s.lan, s.outside))
	}
	if s.options.V6 != NoV6 {
		up = append(up,
			fmt.Sprintf("addr replace %s/64 dev %s nodad", s.v6(0, 1), s.upPort),
			fmt.Sprintf("route replace %s/64 via %s", s.v6(1, 0), s.v6(0, 2)))
		router = append(router,
			fmt.Sprintf("addr replace %s/64 dev wan0 nodad", s.v6(0, 2)),
			fmt.Sprintf("route replace default via %s", s.v6(0, 1)))
	}
	s.up.IP(up...)
	s.router.IP(router...)
	s.awaitPort(s.up, s.upPort)
	s.awaitPort(s.router, "wan0")
}

// awaitPort waits until an interface carries packets: the kernel takes its time
// after a cable was plugged in.
func (s *Site) awaitPort(h *netns.Host, name string) {
	s.lab.t.Helper()
	netns.Until(s.lab.t, 10*time.Second, h.Name+": "+name+" is up", func() error {
		i, err := netns.Inside(h, func() (*net.Interface, error) { return net.InterfaceByName(name) })
		if err == nil && i.Flags&net.FlagRunning == 0 {
			err = errors.New("not yet")
		}
		return err
	})
}

// Outside is the public address the site's IPv4 shows: of its carrier's NAT
// where it has one. A site without NAT has one for each node instead.
func (s *Site) Outside() netip.Addr {
	if s.carrier != nil {
		return s.carrier.Outside()
	}
	return s.outside
}

// Nodes returns the hosts that are at the site now.
func (s *Site) Nodes() []*Node { return s.nodes }

// Node returns the k-th host, from 1.
func (s *Site) Node(k int) *Node { return s.nodes[k-1] }

// Router is the host that stands between the nodes and the outside.
func (s *Site) Router() *netns.Host { return s.router }

// String returns name, kind, outside address and nodes in one line.
func (s *Site) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%-6s %-15s", s.Name, s.Kind)
	if !s.nat.public() {
		fmt.Fprintf(&b, " %s", s.Outside())
	}
	for _, n := range s.nodes {
		fmt.Fprintf(&b, " %s=%s", n.Name, n.V4)
		if n.V6.IsValid() {
			fmt.Fprintf(&b, ",%s", n.V6)
		}
	}
	return b.String()
}
