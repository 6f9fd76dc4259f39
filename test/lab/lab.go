//go:build linux

package lab

import (
	"fmt"
	"net/netip"
	"os"

	"nexd/test/need"
	"nexd/test/netns"
)

// Lab is a network of sites. Its methods end the test when something cannot be
// built.
type Lab struct {
	// Pub is a public host that belongs to no site; the STUN server runs there.
	Pub *netns.Host

	t      netns.T
	set    *netns.Set
	core   *netns.Host // routes between the sites
	sites  []*Site
	blocks []block
}

// The addresses of Pub: two of IPv4 and two of IPv6, as RFC 5780 asks of a
// server that measures NATs.
var pubAddrs = []netip.Addr{
	netip.MustParseAddr("192.0.2.10"), netip.MustParseAddr("198.51.100.10"),
	netip.MustParseAddr("2001:db8:ffff::10"), netip.MustParseAddr("2001:db8:ffff::11"),
}

// stunPorts are the ports of the STUN server on each address of Pub.
var stunPorts = []uint16{3478, 3479}

// STUN returns the addresses of the STUN server: the first two are IPv4 and
// differ in address, as a client with two servers wants them.
func (l *Lab) STUN() []netip.AddrPort {
	var all []netip.AddrPort
	for _, a := range pubAddrs {
		all = append(all, netip.AddrPortFrom(a, stunPorts[0]))
	}
	return all
}

// New builds a lab without sites; the end of the test removes it and all that
// was added. Several may exist at once. Where the machine cannot do it, the
// test is skipped or fails as [need.Missing] says.
func New(t netns.T) *Lab {
	t.Helper()
	need.Programs(t, "ip", "nft")
	l := &Lab{t: t, set: netns.NewSet(t, "nexdlab")}
	hosts := l.set.Hosts("core", "pub")
	l.core, l.Pub = hosts[0], hosts[1]
	forwards(l.core)
	l.core.IP(
		"link add pub type veth peer name eth0 netns "+l.Pub.NS,
		"link set pub up",
		"addr add 192.0.2.1/24 dev pub",
		"addr add 198.51.100.1/24 dev pub",
		"addr add 2001:db8:ffff::1/64 dev pub nodad",
	)
	lines := []string{"link set eth0 up"}
	for _, a := range pubAddrs {
		bits, nodad := 24, ""
		if a.Is6() {
			bits, nodad = 64, " nodad"
		}
		lines = append(lines, fmt.Sprintf("addr add %s/%d dev eth0%s", a, bits, nodad))
	}
	l.Pub.IP(append(lines, "route add default via 192.0.2.1", "route add default via 2001:db8:ffff::1")...)
	l.core.Carrier("pub")
	l.Pub.Carrier("eth0")
	stop, err := serveSTUN(l.Pub)
	if err != nil {
		t.Fatalf("STUN server: %v", err)
	}
	t.Cleanup(stop)
	return l
}

// forwards makes a host a router that takes every packet as it comes.
func forwards(h *netns.Host) {
	h.Sysctl(
		"net/ipv4/ip_forward", "1",
		"net/ipv6/conf/all/forwarding", "1",
		"net/ipv4/conf/all/rp_filter", "0",
		"net/ipv4/conf/default/rp_filter", "0",
		"net/ipv4/conf/all/send_redirects", "0",
		"net/ipv4/conf/default/send_redirects", "0",
	)
	// Where the kernel has it, it shows bridged packets to nftables as if they
	// were routed: a LAN is no business of the NAT.
	if _, err := os.Stat("/proc/sys/net/bridge"); err == nil {
		h.Sysctl("net/bridge/bridge-nf-call-iptables", "0", "net/bridge/bridge-nf-call-ip6tables", "0")
	}
}

// Sites returns the sites in the order they were added, carriers too.
func (l *Lab) Sites() []*Site { return l.sites }

// Node finds a node by its name.
func (l *Lab) Node(name string) (*Node, error) {
	for _, s := range l.sites {
		for _, n := range s.nodes {
			if n.Name == name {
				return n, nil
			}
		}
	}
	return nil, fmt.Errorf("no node %q", name)
}

// SiteNamed finds a site by its name.
func (l *Lab) SiteNamed(name string) (*Site, error) {
	for _, s := range l.sites {
		if s.Name == name {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no site %q", name)
}
