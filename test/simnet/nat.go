package simnet

import (
	"net/netip"
	"time"
)

// outbound translates the source of a packet that leaves the site. mu is held.
func (s *Site) outbound(inside, to netip.AddrPort) (netip.AddrPort, bool) {
	now := time.Now()
	key := mapKey{inside: inside, to: depends(s.nat.Mapping, to)}
	if s.nat.Public {
		key.to = netip.AddrPort{}
	}
	m := s.maps[key]
	if m == nil || now.Sub(m.used) > s.nat.Lifetime {
		if m != nil {
			delete(s.byPort, m.port)
		}
		m = &mapping{inside: inside, port: s.choosePort(inside.Port()), allowed: make(map[netip.AddrPort]time.Time)}
		s.maps[key], s.byPort[m.port] = m, m
	}
	m.used = now
	m.allowed[depends(s.nat.Filtering, to)] = now
	return netip.AddrPortFrom(s.public, m.port), true
}

// choosePort keeps the port where the NAT is that kind and it is free.
func (s *Site) choosePort(want uint16) uint16 {
	if s.byPort[want] == nil && (s.nat.Public || s.nat.Mapping == Endpoint && s.nextPort == 40000) {
		return want
	}
	for s.nat.Random {
		if p := uint16(1024 + s.net.rng.IntN(1<<16-1024)); s.byPort[p] == nil {
			return p
		}
	}
	for s.byPort[s.nextPort] != nil {
		s.nextPort++
	}
	s.nextPort++
	return s.nextPort - 1
}

// inbound finds what takes a packet from the internet, or nil. mu is held.
func (s *Site) inbound(from, to netip.AddrPort) func(b []byte, from netip.AddrPort) {
	if s.nat.Public && s.nat.Open {
		if h := s.hosts[to.Addr()]; h != nil {
			return h.receives(to.Port())
		}
		return nil
	}
	now := time.Now()
	m := s.byPort[to.Port()]
	if m == nil || now.Sub(m.used) > s.nat.Lifetime {
		return nil
	}
	if at, ok := m.allowed[depends(s.nat.Filtering, from)]; !ok || now.Sub(at) > s.nat.Lifetime {
		return nil
	}
	h := s.hosts[m.inside.Addr()]
	if h == nil {
		return nil
	}
	return h.receives(m.inside.Port())
}

// depends cuts an address down to the part a behaviour looks at.
func depends(b Behaviour, a netip.AddrPort) netip.AddrPort {
	switch b {
	case Address:
		return netip.AddrPortFrom(a.Addr(), 0)
	case AddressAndPort:
		return a
	default:
		return netip.AddrPort{}
	}
}
