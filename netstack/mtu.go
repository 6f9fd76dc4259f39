package netstack

import (
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// MaxPathMTU is the largest MTU that SetPathMTU takes. Larger packets were not
// measured to be faster, and cost more when one is lost.
const MaxPathMTU = 8920

// SetPathMTU says how large a packet to an address of the mesh may be, IP header
// included, from now on: what the path to it has been seen to carry. It may be
// called at any time, and takes effect with the next packet:
//
//   - A TCP connection made afterwards, by either side, agrees on segments of that
//     size (the MSS of both SYNs is lowered to it).
//   - A connection that exists follows: its segments are cut smaller when the MTU
//     has become less, and when it has become more, several go into one packet.
//   - Datagrams and echo requests above it leave as fragments.
//
// The mtu is brought to within MinMTU and MaxPathMTU. 0 forgets the address, for
// which the stack's own MTU holds again; an owner forgets addresses whose peer is
// gone. WireGuard pads what it seals to a multiple of 16 bytes, so an MTU that is
// none costs up to 15 bytes more on the wire than it says.
//
// Where Config.MTU is set, that one holds for all and SetPathMTU does nothing.
func (s *Stack) SetPathMTU(to netip.Addr, mtu int) {
	if mtu == 0 {
		s.PathMoved(to)
	}
	s.link.mtus.set(to.Unmap().WithZone(""), mtu)
}

// PathMTU returns how large a packet to an address may be now.
func (s *Stack) PathMTU(to netip.Addr) int {
	mtu, _ := s.link.mtus.get(to.Unmap().WithZone(""))
	return mtu
}

// mtus are the MTU of each destination. It may be used by many goroutines.
type mtus struct {
	own    int  // of destinations that have none of their own
	pinned bool // own holds for all
	paths  sync.Map
}

func (m *mtus) set(to netip.Addr, mtu int) {
	switch {
	case m.pinned:
	case mtu == 0:
		m.paths.Delete(to)
	default:
		m.paths.Store(to, min(max(mtu, MinMTU), MaxPathMTU))
	}
}

// get returns the MTU to a destination, and whether it was set for it.
func (m *mtus) get(to netip.Addr) (mtu int, known bool) {
	if !m.pinned {
		if v, ok := m.paths.Load(to); ok {
			return v.(int), true
		}
	}
	return m.own, false
}

// most is the largest MTU that may become true.
func (m *mtus) most() int {
	if m.pinned {
		return m.own
	}
	return max(m.own, MaxPathMTU)
}

// clampMSS lowers the MSS option of a SYN to what fits into mtu (RFC 6691
// section 2: headers without options are subtracted). Other segments, and a SYN
// without the option, stay as they are. The checksum is not touched.
func clampMSS(tcp header.TCP, ipHeader, mtu int) {
	if len(tcp) < header.TCPMinimumSize || tcp.Flags()&header.TCPFlagSyn == 0 {
		return
	}
	limit := mtu - ipHeader - header.TCPMinimumSize
	options := tcp[header.TCPMinimumSize:min(max(int(tcp.DataOffset()), header.TCPMinimumSize), len(tcp))]
	for len(options) > 0 {
		switch options[0] {
		case header.TCPOptionEOL:
			return
		case header.TCPOptionNOP:
			options = options[1:]
			continue
		}
		if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
			return
		}
		if options[0] == header.TCPOptionMSS && options[1] == header.TCPOptionMSSLength {
			if mss := int(options[2])<<8 | int(options[3]); mss > limit {
				options[2], options[3] = byte(limit>>8), byte(limit)
			}
			return
		}
		options = options[options[1]:]
	}
}
