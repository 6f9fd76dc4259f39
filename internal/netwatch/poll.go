package netwatch

import (
	"maps"
	"net"
	"net/netip"
)

// interfaces is what can be seen of the network everywhere.
type interfaces struct {
	up    map[int]bool // by index: those that work
	addrs map[netip.Prefix]int
}

// snapshot looks at the interfaces; at nothing unless wanted. What cannot be
// read is not there.
func snapshot(wanted bool) interfaces {
	s := interfaces{up: map[int]bool{}, addrs: map[netip.Prefix]int{}}
	if !wanted {
		return s
	}
	all, err := net.Interfaces()
	if err != nil {
		return s
	}
	for _, i := range all {
		const works = net.FlagUp | net.FlagRunning
		if i.Flags&works != works || i.Flags&net.FlagLoopback != 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // gone in between
		}
		for _, a := range addrs {
			n, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, _ := netip.AddrFromSlice(n.IP)
			if ip = ip.Unmap(); counts(ip) {
				ones, _ := n.Mask.Size()
				s.addrs[netip.PrefixFrom(ip, min(ones, ip.BitLen()))] = i.Index
				s.up[i.Index] = true
			}
		}
	}
	return s
}

// changed says what is other in next; 0: nothing.
func (s interfaces) changed(next interfaces) reason {
	switch {
	case !maps.Equal(s.up, next.up):
		return reasonLink
	case !maps.Equal(s.addrs, next.addrs):
		return reasonAddress
	}
	return 0
}

// counts reports whether an address makes a difference to others.
func counts(ip netip.Addr) bool {
	return ip.IsValid() && !ip.IsLoopback() && !ip.IsLinkLocalUnicast() && !ip.IsMulticast()
}
