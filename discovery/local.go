package discovery

import (
	"net"
	"net/netip"
	"slices"
	"strings"
)

// localAddr is an address of this machine.
type localAddr struct {
	prefix netip.Prefix // the address itself, with the length of its network
	bridge bool         // of containers or virtual machines: offered last
}

// systemAddrs lists the addresses of every interface that is up, except those
// that are never candidates. Loopback is listed only when there is nothing else.
func systemAddrs(exclude func(netip.Addr) bool) ([]localAddr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var out, loopback []localAddr
	for _, i := range interfaces {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // gone in between
		}
		for _, a := range addrs {
			p, ok := prefixOf(a)
			if !ok || p.Addr().IsLinkLocalUnicast() || exclude != nil && exclude(p.Addr()) {
				continue
			}
			l := localAddr{prefix: p, bridge: isBridge(i.Name)}
			if p.Addr().IsLoopback() {
				loopback = append(loopback, l)
			} else {
				out = append(out, l)
			}
		}
	}
	if len(out) == 0 {
		out = loopback
	}
	slices.SortStableFunc(out, func(a, b localAddr) int {
		switch {
		case a.bridge == b.bridge:
			return a.prefix.Addr().Compare(b.prefix.Addr())
		case b.bridge:
			return -1
		}
		return 1
	})
	return out, nil
}

func prefixOf(a net.Addr) (netip.Prefix, bool) {
	n, ok := a.(*net.IPNet)
	if !ok {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	if !ok {
		return netip.Prefix{}, false
	}
	ones, _ := n.Mask.Size()
	if ip.Is4In6() && ones > 32 {
		ones -= 96
	}
	return netip.PrefixFrom(ip.Unmap(), ones), true
}

// isBridge goes by the names container engines give.
func isBridge(name string) bool {
	for _, prefix := range []string{"docker", "br-", "virbr", "veth", "cni", "lxc", "lxd", "podman", "flannel", "cali"} {
		if strings.HasPrefix(name, prefix) {
			return true
		}
	}
	return false
}

// network is what is known of this machine's own addresses.
type network struct {
	addrs []localAddr
	// only, if valid, is offered in place of them (Config.LocalIP).
	only netip.Addr
}

// has reports whether ip is an address of this machine.
func (n *network) has(ip netip.Addr) bool {
	return ip == n.only && ip.IsValid() ||
		slices.ContainsFunc(n.addrs, func(l localAddr) bool { return l.prefix.Addr() == ip })
}

// near reports whether ip is on a network this machine is on: no NAT in between.
func (n *network) near(ip netip.Addr) bool {
	return ip.IsLoopback() || n.has(ip) ||
		slices.ContainsFunc(n.addrs, func(l localAddr) bool { return l.prefix.Contains(ip) })
}

// loopback reports whether the machine offers loopback addresses: it has nothing
// else, or was told to.
func (n *network) loopback() bool {
	if n.only.IsValid() {
		return n.only.IsLoopback()
	}
	return len(n.addrs) > 0 && n.addrs[0].prefix.Addr().IsLoopback()
}

// candidates are what we offer, best first: static, host, mapped, server-reflexive,
// and predicted ones and bridges as far as there is room.
func (n *network) candidates(port uint16, statics, ports, reflexives, next []netip.AddrPort) []candidate {
	var out, last []candidate
	add := func(to []candidate, a netip.AddrPort, k kind, local uint16) []candidate {
		same := func(c candidate) bool { return c.Addr == a }
		if a.Port() == 0 || slices.ContainsFunc(out, same) {
			return to
		}
		if a.Addr().Is6() {
			local++ // RFC 8421: IPv6 first among equals
		}
		return append(to, candidate{Addr: a, Kind: k, Priority: k.priority(local)})
	}
	for _, a := range statics {
		out = add(out, unmap(a), static, 0xfff0)
	}
	if n.only.IsValid() {
		out = add(out, netip.AddrPortFrom(n.only.Unmap(), port), host, 0xfff0)
	} else {
		for i, l := range n.addrs {
			a := netip.AddrPortFrom(l.prefix.Addr(), port)
			if l.bridge {
				last = add(last, a, host, uint16(0x0ff0-2*min(i, 64)))
			} else if len(out) < maxCandidates-2*serversPerFamily {
				out = add(out, a, host, uint16(0xfff0-2*min(i, 64)))
			}
		}
	}
	for _, a := range ports {
		out = add(out, unmap(a), mapped, 0xfff0)
	}
	for _, a := range reflexives {
		out = add(out, a, reflexive, 0xfff0)
	}
	for i, a := range next {
		out = add(out, a, predicted, uint16(0xfff0-i))
	}
	out = append(out, last...)
	return out[:min(len(out), maxCandidates)]
}
