//go:build linux

package lab

import "fmt"

// MTU sets the largest packet the site's cable carries, in bytes with its IP
// header. The LAN inside has 1500 unless LANMTU says otherwise.
func (s *Site) MTU(size int) {
	s.lab.t.Helper()
	s.up.IP(fmt.Sprintf("link set %s mtu %d", s.upPort, size))
	s.router.IP(fmt.Sprintf("link set wan0 mtu %d", size))
}

// LANMTU sets the largest packet of the LAN inside: of its nodes, too.
func (s *Site) LANMTU(size int) {
	s.lab.t.Helper()
	for _, n := range s.nodes {
		s.router.IP(fmt.Sprintf("link set l-%s mtu %d", n.Name, size))
		n.IP(fmt.Sprintf("link set eth0 mtu %d", size))
	}
	s.router.IP(fmt.Sprintf("link set br0 mtu %d", size))
}

// Mute has both ends of the site's cable drop what is too long for it without a
// word: the sender hears no ICMP message (RFC 2923 section 2.1, a black hole).
func (s *Site) Mute() {
	s.lab.t.Helper()
	var r script
	r.replace("inet", "mute")
	r.chain("filter", "output", "0")
	r.add("icmp type destination-unreachable icmp code frag-needed drop")
	r.add("icmpv6 type packet-too-big drop")
	r.end()
	r.end()
	s.up.NFT(r.String())
	s.router.NFT(r.String())
}
