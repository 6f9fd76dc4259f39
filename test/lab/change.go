//go:build linux

package lab

import (
	"fmt"
	"strconv"
	"time"
)

// Rebind makes the NAT forget all mappings and give out other outside ports, as
// a router that was restarted. A firewall forgets its flows.
func (s *Site) Rebind() {
	s.lab.t.Helper()
	s.generation++
	s.forget()
}

// Flush makes the NAT forget all mappings; ports may come back as they were.
func (s *Site) Flush() {
	s.lab.t.Helper()
	s.forget()
}

// Roam gives the site the next outside address and forgets all mappings, as a
// provider does over night. Behind a carrier it is the carrier's inside address
// that changes; without NAT each node gets a new one. IPv6 stays.
func (s *Site) Roam() {
	s.lab.t.Helper()
	if s.nat.public() {
		for _, n := range s.nodes {
			n.IP(fmt.Sprintf("addr del %s/24 dev eth0", n.V4))
			if n.V6.IsValid() {
				n.IP(fmt.Sprintf("addr del %s/64 dev eth0", n.V6))
			}
			s.address(n)
		}
		s.forget()
		return
	}
	old := s.outside
	next := int(old.As4()[3]) + 1
	if next > 250 {
		next = 2
	}
	s.outside = hostOf(s.uplink, next)
	s.router.IP(fmt.Sprintf("addr del %s/24 dev wan0", old))
	s.plug()
	s.forget()
	if s.mapper != nil {
		s.mapper.announce()
	}
}

// forget empties the maps and the kernel's table of flows, and loads the rules
// anew. No packet passes in between, which would bring an old mapping back.
func (s *Site) forget() {
	s.lab.t.Helper()
	if s.mapper != nil {
		s.mapper.reset()
	}
	var hold script
	hold.replace("inet", "hold")
	hold.chain("filter", "prerouting", "-500")
	hold.add("drop")
	hold.end()
	hold.end()
	s.router.NFT(hold.String())
	if err := flushFlows(s.router); err != nil {
		s.lab.t.Fatalf("%s: forget flows: %v", s.Name, err)
	}
	s.router.NFT(s.natRules(nil) + s.filterRules() + "delete table inet hold\n")
}

// Timeout sets how long the router remembers a UDP flow without packets, in
// whole seconds. Mappings that exist keep their flows, and are noted anew with
// their next packet that goes out.
func (s *Site) Timeout(d time.Duration) {
	s.lab.t.Helper()
	s.timeout = max(d.Round(time.Second), time.Second)
	seconds := strconv.Itoa(int(s.timeout / time.Second))
	s.router.Sysctl(
		"net/netfilter/nf_conntrack_udp_timeout", seconds,
		"net/netfilter/nf_conntrack_udp_timeout_stream", seconds,
	)
	var forwards []forward
	if s.mapper != nil {
		forwards = s.mapper.list()
	}
	if rules := s.natRules(forwards); rules != "" {
		s.router.NFT(rules)
	}
}

// Collect makes the kernel drop the flows whose time is over. By itself it gets
// to that within a minute or more, and until then a new flow takes the outside
// port of a dead one from the same inside endpoint.
func (s *Site) Collect() {
	s.lab.t.Helper()
	if err := collectFlows(s.router); err != nil {
		s.lab.t.Fatalf("%s: collect flows: %v", s.Name, err)
	}
}

// UDPBlock makes the router drop all UDP in both directions, IPv6 too.
func (s *Site) UDPBlock() { s.setUDP(false) }

// UDPUnblock ends UDPBlock; mappings that did not time out go on.
func (s *Site) UDPUnblock() { s.setUDP(true) }

func (s *Site) setUDP(passes bool) {
	s.lab.t.Helper()
	s.noUDP = !passes
	s.router.NFT(s.filterRules())
}

// LinkDown pulls the cable between the router and the outside.
func (s *Site) LinkDown() {
	s.lab.t.Helper()
	s.router.IP("link set wan0 down")
}

// LinkUp plugs it in again.
func (s *Site) LinkUp() {
	s.lab.t.Helper()
	s.plug()
}
