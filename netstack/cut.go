package netstack

import (
	"encoding/binary"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// cutting says what becomes of a packet of gVisor's on its way to WireGuard.
type cutting uint8

const (
	asIs      cutting = iota + 1 // copied as it stands
	segments                     // TCP: one or more segments, with their checksums
	whole                        // UDP in one packet, with its checksum
	fragments                    // larger than the MTU and not TCP: IP fragments
)

// shape is how a packet is cut: into pieces of its payload with a header in
// front of each. The payload is TCP's, or IP's where it is fragmented.
type shape struct {
	cutting cutting
	header  int // bytes in front of each piece
	payload int // bytes of all pieces together
	piece   int // bytes of each piece but the last; multiple of 8 for fragments
}

// pieces is how many are left after the first from bytes of the payload.
func (s shape) pieces(from int) int {
	return max(1, (s.payload-from+s.piece-1)/s.piece)
}

// size of the packet that carries the piece at from.
func (s shape) size(from int) int { return s.header + min(s.piece, s.payload-from) }

// within counts the pieces from a place on that are no more than most, and whose
// cost stays within budget. Packets of a few bytes cost nothing: in the socket
// they are no part of the same write as large ones.
func (s shape) within(from, most, budget int) (count, cost int) {
	left := s.pieces(from)
	each := sealed(s.header + s.piece)
	if left <= most {
		last := sealed(s.size(from + (left-1)*s.piece))
		if last <= smallPacket {
			last = 0
		}
		if cost = (left-1)*each + last; cost <= budget {
			return left, cost
		}
	}
	count = min(left, most, max(budget, 0)/each)
	if count == left {
		count-- // the last one did not fit
	}
	return count, count * each
}

// shapeOf decides how a packet is cut with the MTU of its destination. gVisor
// itself fragments nothing, as it knows no MTU but the largest (see nicMTU).
func shapeOf(pkt *stack.PacketBuffer, m *mtus) shape {
	size := pkt.Size()
	ip := pkt.NetworkHeader().Slice()
	transport := pkt.TransportHeader().Slice()
	s := shape{cutting: asIs, header: size, piece: 1}
	if len(ip) < header.IPv4MinimumSize {
		return s
	}
	if pkt.TransportProtocolNumber == header.TCPProtocolNumber && len(transport) >= header.TCPMinimumSize {
		s.cutting, s.header = segments, len(ip)+len(transport)
		s.payload = size - s.header
		s.piece = segmentSize(s, int(pkt.GSOOptions.MSS), ip, m)
		return s
	}
	if size > MinMTU && (ip[0]>>4 == 4 || len(ip) == header.IPv6MinimumSize) {
		if mtu, _ := m.get(destination(ip)); size > mtu {
			return fragmentShape(ip, size, mtu)
		}
	}
	if pkt.TransportProtocolNumber == header.UDPProtocolNumber && len(transport) >= header.UDPMinimumSize {
		s.cutting = whole
	}
	return s
}

// segmentSize is how much of a TCP segment goes into one packet. mss is what
// gVisor counts in, 0 when the segment is not to be cut for its sake.
//
// Where the MTU has become less than it was when the connection was made, it
// sets the size. Where a path was seen to carry more, a packet takes as many
// whole mss as fit: acknowledgements then end where gVisor's own segments do,
// without which it takes reordering for loss.
func segmentSize(s shape, mss int, ip []byte, m *mtus) int {
	if s.payload+s.header <= MinMTU && (mss == 0 || s.payload <= mss) {
		return max(1, s.payload)
	}
	mtu, known := m.get(destination(ip))
	limit := mtu - s.header
	switch {
	case mss == 0 || mss > limit:
		return limit
	case known:
		return limit / mss * mss
	}
	return mss
}

// part is some pieces of a packet, on their way into WireGuard's buffers.
type part struct {
	pkt   *stack.PacketBuffer // one reference
	shape shape
	from  int    // bytes of the payload in front of the first piece
	n     int    // pieces
	id    uint32 // of the fragments
	mtu   int    // to the destination of a SYN; 0: no SYN

	ip, transport []byte // gVisor's headers, set by start
}

// put writes the piece at from to dst, which is as long as shape.size says.
// Pieces are put in their order with one walker.
func (p *part) put(w *walker, dst []byte, from int) {
	switch p.shape.cutting {
	case segments:
		p.putSegment(w, dst, from)
	case whole:
		w.copy(dst[:len(p.ip)])
		putDatagram(w, dst, len(p.ip))
	case fragments:
		p.putFragment(w, dst, from)
	default:
		w.copy(dst)
	}
}

// start prepares the part; the walker is for its pieces.
func (p *part) start() walker {
	p.ip, p.transport = p.pkt.NetworkHeader().Slice(), p.pkt.TransportHeader().Slice()
	switch p.shape.cutting {
	case segments:
		return walk(p.pkt, p.shape.header+p.from)
	case fragments:
		return walk(p.pkt, len(p.ip)+p.from)
	}
	return walk(p.pkt, 0)
}

// putSegment makes one TCP segment of a larger one: what Linux does in
// tcp_gso_segment. What is the same for all pieces is in gVisor's headers.
func (p *part) putSegment(w *walker, dst []byte, from int) {
	n := copy(dst, p.ip)
	copy(dst[n:], p.transport)
	size := len(dst) - n
	putLengths(dst[:n], size, from/p.shape.piece)

	tcp := header.TCP(dst[n:p.shape.header])
	binary.BigEndian.PutUint32(tcp[header.TCPSeqNumOffset:], tcp.SequenceNumber()+uint32(from))
	flags := tcp.Flags()
	if from+len(dst)-p.shape.header < p.shape.payload { // not the last
		flags &^= header.TCPFlagFin | header.TCPFlagPsh
	}
	if from > 0 {
		flags &^= header.TCPFlagCwr
	}
	tcp[header.TCPFlagsOffset] = byte(flags)
	if p.mtu != 0 {
		clampMSS(tcp, n, p.mtu)
	}
	tcp.SetChecksum(0)
	sum := addBytes(pseudoSum(dst[:n], header.TCPProtocolNumber, size), tcp)
	sum = w.copySum(dst[p.shape.header:], sum)
	putChecksum(tcp[header.TCPChecksumOffset:], sum)
}

// putDatagram fills in the rest of a whole UDP packet behind the IP header.
func putDatagram(w *walker, dst []byte, n int) {
	udp := header.UDP(dst[n:])
	w.copy(udp[:header.UDPMinimumSize])
	udp.SetChecksum(0)
	sum := pseudoSum(dst[:n], header.UDPProtocolNumber, len(udp))
	sum = addBytes(sum, udp[:header.UDPMinimumSize])
	sum = w.copySum(udp[header.UDPMinimumSize:], sum)
	putUDPChecksum(udp, sum)
}

// putUDPChecksum writes a UDP checksum, in which zero means none (RFC 768).
func putUDPChecksum(udp []byte, sum uint64) {
	c := ^fold(sum)
	if c == 0 {
		c = 0xffff
	}
	binary.LittleEndian.PutUint16(udp[6:], c)
}

// putLengths completes an IP header for size bytes behind it. IPv4 packets that
// were one get numbers in a row.
func putLengths(ip []byte, size, index int) {
	if ip[0]>>4 == 6 {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-header.IPv6MinimumSize+size))
		return
	}
	binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+size))
	binary.BigEndian.PutUint16(ip[4:], binary.BigEndian.Uint16(ip[4:])+uint16(index))
	putIPv4Checksum(ip)
}

func putIPv4Checksum(ip []byte) {
	ip[10], ip[11] = 0, 0
	putChecksum(ip[10:], addBytes(0, ip))
}

// pseudoSum is the sum of the pseudo-header (RFC 9293 section 3.1, RFC 8200
// section 8.1) of a packet of which size bytes stand behind the IP header.
func pseudoSum(ip []byte, protocol tcpip.TransportProtocolNumber, size int) uint64 {
	var sum uint64
	if ip[0]>>4 == 6 {
		sum = addBytes(0, ip[8:40])
	} else {
		sum = addBytes(0, ip[12:20])
	}
	sum = addBig(sum, uint16(protocol))
	return addBig(sum, uint16(size))
}
