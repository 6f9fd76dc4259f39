package tunnel

import (
	"encoding/binary"
	"net/netip"
)

const (
	ipv4Header = 20
	ipv6Header = 40
	icmpHeader = 8

	protoICMP   = 1
	protoTCP    = 6
	protoUDP    = 17
	protoICMPv6 = 58

	// headroom is what a tun.Device may want before a packet for its own header.
	headroom = 16

	answerQueue = 64
	answerRate  = 100 // per second

	// An answer quotes as much as fits into these sizes (RFC 1812 section
	// 4.3.2.3, RFC 4443 section 3.1), header included.
	maxAnswer4 = 576
	maxAnswer6 = 1280
)

// refuse tells the sender of a packet that its destination is nobody's, so
// that a dial fails at once and not after minutes. It never blocks: past its
// rate, or when the queue is full, the packet is dropped without an answer.
// The answer is written by another goroutine, because the Device may want to
// have packets read while it takes one.
func (t *Tunnel) refuse(pkt []byte) {
	if !answerable(pkt) || !t.allowed.Allow() {
		return
	}
	select {
	case t.answers <- unreachable(pkt):
	default:
	}
}

// answer writes the answers until the tunnel ends.
func (t *Tunnel) answer(ended <-chan struct{}) {
	for {
		select {
		case msg := <-t.answers:
			if _, err := t.cfg.Device.Write([][]byte{msg}, headroom); err == nil {
				t.count.answered.Add(1)
			}
		case <-t.closing:
			return
		case <-ended:
			return
		}
	}
}

// answerable reports whether a packet may be answered with an error: TCP, UDP
// and echo requests from one host to one host, and no later fragments (RFC
// 1122 section 3.2.2, RFC 4443 section 2.4).
func answerable(pkt []byte) bool {
	src, ok := source(pkt)
	dst, _ := destination(pkt)
	if !ok || src.IsUnspecified() || src.IsMulticast() || dst.IsUnspecified() || dst.IsMulticast() ||
		dst == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return false
	}
	if src.Is4() {
		header := int(pkt[0]&0xF) * 4
		if header < ipv4Header || len(pkt) < header+icmpHeader || binary.BigEndian.Uint16(pkt[6:])&0x1FFF != 0 {
			return false
		}
		return wantsAnswer(pkt[9], pkt[header])
	}
	return len(pkt) >= ipv6Header+icmpHeader && wantsAnswer(pkt[6], pkt[ipv6Header])
}

func wantsAnswer(proto, icmpType byte) bool {
	switch proto {
	case protoTCP, protoUDP:
		return true
	case protoICMP:
		return icmpType == 8
	case protoICMPv6:
		return icmpType == 128
	}
	return false
}

// unreachable builds the answer to an answerable packet, as if the address
// itself had sent it, after headroom free bytes: host unreachable (RFC 792) or
// no route to destination (RFC 4443 section 3.1; stacks that do not know the
// closer "address unreachable" know this one).
func unreachable(pkt []byte) []byte {
	if pkt[0]>>4 == 4 {
		quote := pkt[:min(len(pkt), maxAnswer4-ipv4Header-icmpHeader)]
		msg := make([]byte, headroom+ipv4Header+icmpHeader+len(quote))
		ip := msg[headroom:]
		ip[0] = 0x45
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		ip[8], ip[9] = 64, protoICMP
		copy(ip[12:16], pkt[16:20])
		copy(ip[16:20], pkt[12:16])
		binary.BigEndian.PutUint16(ip[10:], checksum(ip[:ipv4Header], 0))
		icmp := ip[ipv4Header:]
		icmp[0], icmp[1] = 3, 1
		copy(icmp[icmpHeader:], quote)
		binary.BigEndian.PutUint16(icmp[2:], checksum(icmp, 0))
		return msg
	}
	quote := pkt[:min(len(pkt), maxAnswer6-ipv6Header-icmpHeader)]
	msg := make([]byte, headroom+ipv6Header+icmpHeader+len(quote))
	ip := msg[headroom:]
	ip[0] = 0x60
	binary.BigEndian.PutUint16(ip[4:], uint16(icmpHeader+len(quote)))
	ip[6], ip[7] = protoICMPv6, 64
	copy(ip[8:24], pkt[24:40])
	copy(ip[24:40], pkt[8:24])
	icmp := ip[ipv6Header:]
	icmp[0], icmp[1] = 1, 0
	copy(icmp[icmpHeader:], quote)
	pseudo := sum(ip[8:40], uint32(len(icmp))+protoICMPv6)
	binary.BigEndian.PutUint16(icmp[2:], checksum(icmp, pseudo))
	return msg
}

// checksum is the Internet checksum (RFC 1071) of b, added to a partial sum.
func checksum(b []byte, partial uint32) uint16 {
	s := sum(b, partial)
	for s > 0xFFFF {
		s = s>>16 + s&0xFFFF
	}
	return ^uint16(s)
}

// sum adds b up in 16-bit words; b is short enough for 32 bits to hold it.
func sum(b []byte, s uint32) uint32 {
	for ; len(b) >= 2; b = b[2:] {
		s += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	return s
}
