package proxy

import (
	"net"
	"net/netip"
	"slices"

	"nexd/rules"
)

// source is who connects, looked up once per connection.
type source struct {
	addr netip.Addr
	name string
	tags []string
}

// source finds out who has an address; on the host that is nobody known.
func (g *group) source(addr netip.Addr) source {
	s := source{addr: addr.WithZone("")}
	if g.key.Direction == rules.Ingress {
		s.name, s.tags, _ = g.e.cfg.Directory.Who(s.addr)
	}
	return s
}

// allowed reports whether one of the entries is met; no entries admit everybody.
func (s source) allowed(r *rule) bool {
	entries := r.Options.Allow
	return len(entries) == 0 || slices.ContainsFunc(entries, func(a rules.Allow) bool {
		switch {
		case a.Prefix.IsValid():
			return a.Prefix.Contains(s.addr)
		case a.Tag != "":
			return slices.Contains(s.tags, a.Tag)
		case a.Name != "":
			return a.Name == s.name
		}
		return false
	})
}

// addrPortOf returns the address of a peer, never in v4-in-v6 form; the zero
// value for addresses that are not IP.
func addrPortOf(a net.Addr) netip.AddrPort {
	var ap netip.AddrPort
	switch a := a.(type) {
	case *net.TCPAddr:
		ap = a.AddrPort()
	case *net.UDPAddr:
		ap = a.AddrPort()
	case nil:
	default:
		ap, _ = netip.ParseAddrPort(a.String())
	}
	return clean(ap)
}

func clean(ap netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}
