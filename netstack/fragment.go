package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// fragmentShape cuts what is larger than the MTU and not TCP. Each fragment but
// the last carries a multiple of 8 bytes (RFC 791 section 3.2, RFC 8200 section 4.5).
func fragmentShape(ip []byte, size, mtu int) shape {
	s := shape{cutting: fragments, header: len(ip), payload: size - len(ip)}
	if ip[0]>>4 == 6 {
		s.header += header.IPv6FragmentHeaderSize
	}
	s.piece = (mtu - s.header) &^ 7
	return s
}

// putFragment writes the fragment with the payload from a place on. The first
// one has the transport's header, and its checksum over the whole.
func (p *part) putFragment(w *walker, dst []byte, from int) {
	n := copy(dst, p.ip)
	more := from+len(dst)-p.shape.header < p.shape.payload
	if p.ip[0]>>4 == 6 {
		putIPv6Fragment(dst, n, from, more, p.id)
	} else {
		putIPv4Fragment(dst, n, from, more, uint16(p.id))
	}
	w.copy(dst[p.shape.header:])
	if from == 0 && p.pkt.TransportProtocolNumber == header.UDPProtocolNumber {
		udp := header.UDP(dst[p.shape.header:])
		udp.SetChecksum(0)
		sum := pseudoSum(p.ip, header.UDPProtocolNumber, p.shape.payload)
		sum = addBytes(sum, udp[:header.UDPMinimumSize])
		all := walk(p.pkt, n+header.UDPMinimumSize)
		putUDPChecksum(udp, all.sum(p.shape.payload-header.UDPMinimumSize, sum))
	}
}

// putIPv4Fragment completes the IPv4 header of a fragment. Its number must be
// unlike those of others on their way (RFC 6864 section 4.3); gVisor gives none to
// packets that it does not want fragmented.
func putIPv4Fragment(dst []byte, n, from int, more bool, id uint16) {
	ip := header.IPv4(dst[:n])
	var flags uint8
	if more {
		flags = header.IPv4FlagMoreFragments
	}
	ip.SetFlagsFragmentOffset(flags, uint16(from))
	binary.BigEndian.PutUint16(ip[2:], uint16(len(dst)))
	binary.BigEndian.PutUint16(ip[4:], id)
	putIPv4Checksum(ip)
}

// putIPv6Fragment adds the fragment header behind the IPv6 header.
func putIPv6Fragment(dst []byte, n, from int, more bool, id uint32) {
	extension := dst[n : n+header.IPv6FragmentHeaderSize]
	extension[0], extension[1] = dst[6], 0 // next header, reserved
	dst[6] = uint8(header.IPv6FragmentHeader)
	place := uint16(from) // in units of 8 bytes, shifted by 3
	if more {
		place |= 1
	}
	binary.BigEndian.PutUint16(extension[2:], place)
	binary.BigEndian.PutUint32(extension[4:], id)
	binary.BigEndian.PutUint16(dst[4:], uint16(len(dst)-header.IPv6MinimumSize))
}
