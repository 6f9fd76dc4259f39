package netwatch

import (
	"encoding/binary"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// maxLinks, maxAddrs and maxRoutes bound what is remembered. What is not
	// counts as new each time, except routes: beyond maxRoutes the machine is a
	// router among routers, and only its default routes count.
	maxLinks  = 4096
	maxAddrs  = 4096
	maxRoutes = 4096

	// typeMask takes the flags off an attribute's type.
	typeMask = 0x3fff
)

// state is what is known of the network: enough to tell news from noise.
type state struct {
	links  map[uint32]bool // by index: those that work
	addrs  map[addrKey]addrValue
	routes map[routeKey][]hop
	hops   int // in routes
}

type addrKey struct {
	link   uint32
	prefix netip.Prefix
}

// addrValue is what of an address matters; the zero one is as good as none.
type addrValue struct{ usable, deprecated bool }

type routeKey struct {
	dst      netip.Prefix
	tos      uint8
	priority uint32
}

// hop is where a route leads.
type hop struct {
	kind     uint8 // RTN_UNICAST, …
	link     uint32
	gateway  string // as bytes, as are the next ones
	source   string
	multiple string // several next hops
}

func newState() state {
	return state{links: map[uint32]bool{}, addrs: map[addrKey]addrValue{}, routes: map[routeKey][]hop{}}
}

// take notes a message and says what it changed; 0: nothing.
func (s *state) take(m syscall.NetlinkMessage) reason {
	attrs, ok := attributes(m)
	if !ok {
		return 0
	}
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if s.takeLink(m.Data, attrs, m.Header.Type == unix.RTM_NEWLINK) {
			return reasonLink
		}
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		if s.takeAddr(m.Data, attrs, m.Header.Type == unix.RTM_NEWADDR) {
			return reasonAddress
		}
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		replace := m.Header.Flags&unix.NLM_F_REPLACE != 0
		if s.takeRoute(m.Data, attrs, m.Header.Type == unix.RTM_NEWROUTE, replace) {
			return reasonRoute
		}
	}
	return 0
}

// takeLink: struct ifinfomsg is family 1, pad 1, type 2, index 4, flags 4, change 4.
func (s *state) takeLink(b []byte, attrs map[uint16][]byte, isNew bool) bool {
	if b[0] != unix.AF_UNSPEC {
		return false // of a bridge: its ports are not ours
	}
	index, flags := binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[8:])
	const works = unix.IFF_UP | unix.IFF_RUNNING
	_, port := attrs[unix.IFLA_MASTER]
	if flags&unix.IFF_LOOPBACK != 0 {
		return false
	}
	up := isNew && !port && flags&works == works
	was := s.links[index]
	if up == was {
		return false
	}
	// With a link its IPv4 routes go without a word.
	s.forget(index)
	delete(s.links, index)
	if up && len(s.links) < maxLinks {
		s.links[index] = true
	}
	return true
}

// takeAddr: struct ifaddrmsg is family 1, prefix length 1, flags 1, scope 1, index 4.
func (s *state) takeAddr(b []byte, attrs map[uint16][]byte, isNew bool) bool {
	local, ok := attrs[unix.IFA_LOCAL]
	if !ok {
		local = attrs[unix.IFA_ADDRESS]
	}
	ip, ok := netip.AddrFromSlice(local)
	if !ok || !counts(ip) || int(b[1]) > ip.BitLen() {
		return false
	}
	flags := uint32(b[2])
	if wide := attrs[unix.IFA_FLAGS]; len(wide) == 4 {
		flags = binary.NativeEndian.Uint32(wide)
	}
	key := addrKey{binary.NativeEndian.Uint32(b[4:]), netip.PrefixFrom(ip, int(b[1]))}
	probed := flags&unix.IFA_F_TENTATIVE != 0 && flags&unix.IFA_F_OPTIMISTIC == 0
	value := addrValue{usable: isNew && !probed && flags&unix.IFA_F_DADFAILED == 0}
	value.deprecated = value.usable && flags&unix.IFA_F_DEPRECATED != 0
	if value == s.addrs[key] {
		return false
	}
	delete(s.addrs, key)
	if !value.usable {
		s.forget(key.link) // routes that prefer it as their source go with it
	} else if len(s.addrs) < maxAddrs {
		s.addrs[key] = value
	}
	return true
}

// takeRoute: struct rtmsg is family 1, lengths of destination 1 and source 1,
// tos 1, table 1, protocol 1, scope 1, type 1, flags 4.
func (s *state) takeRoute(b []byte, attrs map[uint16][]byte, isNew, replace bool) bool {
	if binary.NativeEndian.Uint32(b[8:])&unix.RTM_F_CLONED != 0 {
		return false
	}
	table := uint32(b[4])
	if wide := attrs[unix.RTA_TABLE]; len(wide) == 4 {
		table = binary.NativeEndian.Uint32(wide)
	}
	key, ok := routeKeyOf(b, attrs)
	if !ok || table != unix.RT_TABLE_MAIN && table != unix.RT_TABLE_DEFAULT {
		return false
	}
	to := hop{
		kind: b[7], link: number(attrs[unix.RTA_OIF]), gateway: string(attrs[unix.RTA_GATEWAY]) + string(attrs[unix.RTA_VIA]),
		source: string(attrs[unix.RTA_PREFSRC]), multiple: string(attrs[unix.RTA_MULTIPATH]),
	}
	return s.setRoute(key, to, isNew, replace)
}

func routeKeyOf(b []byte, attrs map[uint16][]byte) (routeKey, bool) {
	key := routeKey{tos: b[3], priority: number(attrs[unix.RTA_PRIORITY])}
	var dst netip.Addr
	switch b[0] {
	case unix.AF_INET:
		dst = netip.IPv4Unspecified()
	case unix.AF_INET6:
		dst = netip.IPv6Unspecified()
	default:
		return key, false
	}
	if a := attrs[unix.RTA_DST]; a != nil {
		dst, _ = netip.AddrFromSlice(a)
	}
	if !dst.IsValid() || int(b[1]) > dst.BitLen() || dst.IsMulticast() || dst.IsLinkLocalUnicast() {
		return key, false
	}
	key.dst = netip.PrefixFrom(dst, int(b[1]))
	return key, true
}

func number(b []byte) uint32 {
	if len(b) != 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

// setRoute reports whether the route is news.
func (s *state) setRoute(key routeKey, to hop, isNew, replace bool) bool {
	known := s.routes[key]
	at := -1
	for i, h := range known {
		if h == to {
			at = i
		}
	}
	full := s.hops >= maxRoutes
	switch {
	case isNew && at >= 0 && (!replace || len(known) == 1):
		return false
	case isNew && replace:
		s.hops -= len(known)
		known = []hop{to}
	case isNew && full:
		return key.dst.Bits() == 0
	case isNew:
		s.hops -= len(known)
		known = append(known, to)
	case at >= 0:
		s.hops -= len(known)
		known = append(known[:at:at], known[at+1:]...)
	default: // one we did not know is gone
		return !full || key.dst.Bits() == 0
	}
	s.hops += len(known)
	if s.routes[key] = known; len(known) == 0 {
		delete(s.routes, key)
	}
	return true
}

// forget drops the routes over a link, so that they are news if they come back.
func (s *state) forget(link uint32) {
	for key, hops := range s.routes {
		var left []hop
		for _, h := range hops {
			if h.link != link && h.multiple == "" {
				left = append(left, h)
			}
		}
		s.hops -= len(hops) - len(left)
		if s.routes[key] = left; len(left) == 0 {
			delete(s.routes, key)
		}
	}
}

// headers are the lengths of what stands before the attributes.
var headers = map[uint16]int{
	unix.RTM_NEWLINK: unix.SizeofIfInfomsg, unix.RTM_DELLINK: unix.SizeofIfInfomsg,
	unix.RTM_NEWADDR: unix.SizeofIfAddrmsg, unix.RTM_DELADDR: unix.SizeofIfAddrmsg,
	unix.RTM_NEWROUTE: unix.SizeofRtMsg, unix.RTM_DELROUTE: unix.SizeofRtMsg,
}

// attributes returns those of a message by their type: length 2, type 2, value,
// padded to 4 bytes. False: another message, or one that is cut off.
func attributes(m syscall.NetlinkMessage) (map[uint16][]byte, bool) {
	header, ok := headers[m.Header.Type]
	if !ok || len(m.Data) < header {
		return nil, false
	}
	attrs := map[uint16][]byte{}
	for b := m.Data[header:]; len(b) >= unix.SizeofRtAttr; {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofRtAttr || length > len(b) {
			return nil, false
		}
		attrs[binary.NativeEndian.Uint16(b[2:])&typeMask] = b[unix.SizeofRtAttr:length]
		b = b[min((length+3)&^3, len(b)):]
	}
	return attrs, true
}
