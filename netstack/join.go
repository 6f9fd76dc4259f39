package netstack

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"sync"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

const (
	// joinFlows is how many connections are joined side by side in a batch. When
	// there are more, the one that waits longest is delivered as it is.
	joinFlows = 8
	// maxJoined is the largest packet that is made: what its length field can say.
	maxJoined = 65535
)

// joiner gives packets from WireGuard to gVisor, and joins runs of segments of
// one TCP connection before: gVisor's work is by packet, not by byte. It does what
// Linux does in tcp_gro_receive, within one batch: at its end nothing is held.
//
// Joined are segments with data that follow each other without a gap, whose
// headers are the same in all but length, number, sequence and PSH (same
// acknowledgement, window, options with their timestamps, TTL, TOS with its ECN
// bits and DF), and that all have the first one's size but the last, which may be
// shorter. PSH and FIN end a run. What one packet carries of a connection is
// never delivered before what came earlier; all else passes at once: pure
// acknowledgements, other protocols, fragments.
type joiner struct {
	mu   sync.Mutex // one Write at a time
	runs [joinFlows]run
	open int // of runs; the oldest first
	next [BatchSize]int16
}

// run is a row of segments that will be one packet.
type run struct {
	first    segment
	last     int16 // index in the batch
	segments int
	size     int    // of the packet that comes of it
	seq      uint32 // that follows
	ended    bool
}

// segment is a packet of the batch as the joiner sees it.
type segment struct {
	packet []byte // as long as its IP header says
	index  int16
	ip     int // bytes of IP header
	header int // bytes of IP and TCP header
	seq    uint32
	flags  header.TCPFlags
}

func (s segment) payload() int { return len(s.packet) - s.header }

// deliver gives a batch to the stack. bufs hold offset bytes that are not the
// packet's.
func (j *joiner) deliver(l *link, bufs [][]byte, offset int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for len(bufs) > 0 {
		n := min(len(bufs), BatchSize)
		j.batch(l, bufs[:n], offset)
		bufs = bufs[n:]
	}
}

func (j *joiner) batch(l *link, bufs [][]byte, offset int) {
	var packets, size uint64
	for i, buf := range bufs {
		packet := buf[min(offset, len(buf)):]
		protocol, to, length, ok := parse(packet)
		if !ok {
			l.counters.rxMalformed.Add(1)
			continue
		}
		if !l.isOwn(to) {
			l.counters.rxForeign.Add(1)
			continue
		}
		packets++
		size += uint64(len(packet))
		s := segment{packet: packet[:length], index: int16(i)}
		switch s.read() {
		case other:
			l.inject(protocol, buffer.NewViewWithData(packet))
		case control:
			j.flushFlow(l, bufs, offset, s)
			l.injectTCP(protocol, s)
		case unclear:
			j.flush(l, bufs, offset)
			l.injectUnclear(protocol, buffer.NewViewWithData(packet))
		case data:
			j.add(l, bufs, offset, s)
		}
	}
	j.flush(l, bufs, offset)
	l.counters.rxPackets.Add(packets)
	l.counters.rxBytes.Add(size)
}

// content is what the joiner does with a packet.
type content uint8

const (
	other   content = iota + 1 // passes at once
	data                       // TCP data that may be joined
	control                    // TCP that must follow what came before on its connection
	unclear                    // must follow everything
)

// read finds the TCP header of a packet whose length was checked.
func (s *segment) read() content {
	var protocol uint8
	switch s.packet[0] >> 4 {
	case 4:
		s.ip, protocol = int(s.packet[0]&0x0f)*4, s.packet[9]
		if s.ip != header.IPv4MinimumSize || binary.BigEndian.Uint16(s.packet[6:])&0xbfff != 0 { // options, fragments
			return unclear
		}
	default:
		s.ip, protocol = header.IPv6MinimumSize, s.packet[6]
	}
	switch protocol {
	case uint8(header.TCPProtocolNumber):
	case uint8(header.UDPProtocolNumber), uint8(header.ICMPv4ProtocolNumber), uint8(header.ICMPv6ProtocolNumber):
		return other
	default:
		return unclear
	}
	if len(s.packet) < s.ip+header.TCPMinimumSize {
		return unclear
	}
	tcp := header.TCP(s.packet[s.ip:])
	s.header = s.ip + int(tcp.DataOffset())
	if int(tcp.DataOffset()) < header.TCPMinimumSize || len(s.packet) < s.header {
		return unclear
	}
	s.seq, s.flags = tcp.SequenceNumber(), tcp.Flags()
	if s.payload() == 0 || s.flags&^(header.TCPFlagPsh|header.TCPFlagFin|header.TCPFlagEce) != header.TCPFlagAck {
		return control
	}
	return data
}

// ends says that no segment follows this one in a run.
func (s segment) ends() bool { return s.flags&(header.TCPFlagPsh|header.TCPFlagFin) != 0 }

// addresses and ports of a connection, in one direction.
func (s segment) sameFlow(o segment) bool {
	if s.packet[0]>>4 != o.packet[0]>>4 {
		return false
	}
	from := 12
	if s.ip == header.IPv6MinimumSize {
		from = 8
	}
	return bytes.Equal(s.packet[from:s.ip+4], o.packet[from:o.ip+4])
}

// continues reports whether s may follow in the run.
func (r *run) continues(s segment) bool {
	f := r.first
	if r.ended || s.seq != r.seq || s.header != f.header || s.payload() > f.payload() || r.size+s.payload() > maxJoined {
		return false
	}
	a, b := f.packet, s.packet
	if s.ip == header.IPv6MinimumSize {
		// Version, class, flow; hop limit. The payload's protocol is TCP in both.
		if !bytes.Equal(a[:4], b[:4]) || a[7] != b[7] {
			return false
		}
	} else if a[1] != b[1] || a[6] != b[6] || a[8] != b[8] || !r.numbered(b) {
		return false
	}
	a, b = a[f.ip:f.header], b[s.ip:s.header]
	const free = byte(header.TCPFlagPsh | header.TCPFlagFin)
	return bytes.Equal(a[8:13], b[8:13]) && // acknowledgement, offset
		(a[13]^b[13])&^free == 0 &&
		bytes.Equal(a[14:16], b[14:16]) && // window
		bytes.Equal(a[18:], b[18:]) // urgent pointer, options
}

// numbered reports whether an IPv4 packet's number is the next one, or the same
// where it means nothing (RFC 6864 section 4.1).
func (r *run) numbered(packet []byte) bool {
	first, id := binary.BigEndian.Uint16(r.first.packet[4:]), binary.BigEndian.Uint16(packet[4:])
	return id == first+uint16(r.segments) || id == first && packet[6]&0x40 != 0
}

// add puts a segment with data into a run, its own perhaps.
func (j *joiner) add(l *link, bufs [][]byte, offset int, s segment) {
	for i := j.open - 1; i >= 0; i-- { // the youngest is the likeliest
		r := &j.runs[i]
		if !s.sameFlow(r.first) {
			continue
		}
		if r.continues(s) {
			j.next[r.last] = s.index
			r.last = s.index
			r.segments++
			r.size += s.payload()
			r.seq += uint32(s.payload())
			r.ended = s.ends() || s.payload() < r.first.payload()
			r.first.flags |= s.flags
			return
		}
		j.close(l, bufs, offset, i)
		break
	}
	if j.open == joinFlows {
		j.close(l, bufs, offset, 0)
	}
	j.runs[j.open] = run{
		first: s, last: s.index, segments: 1, size: len(s.packet),
		seq: s.seq + uint32(s.payload()), ended: s.ends(),
	}
	j.open++
}

// flushFlow delivers what is held of the connection of s.
func (j *joiner) flushFlow(l *link, bufs [][]byte, offset int, s segment) {
	for i := range j.open {
		if s.sameFlow(j.runs[i].first) {
			j.close(l, bufs, offset, i)
			return
		}
	}
}

// flush delivers everything, the oldest first.
func (j *joiner) flush(l *link, bufs [][]byte, offset int) {
	for i := range j.open {
		l.injectRun(&j.runs[i], &j.next, bufs, offset)
	}
	clear(j.runs[:j.open])
	j.open = 0
}

// close delivers one run.
func (j *joiner) close(l *link, bufs [][]byte, offset, i int) {
	l.injectRun(&j.runs[i], &j.next, bufs, offset)
	copy(j.runs[i:], j.runs[i+1:j.open])
	j.open--
	j.runs[j.open] = run{}
}

// injectTCP gives a segment that is not joined to gVisor.
func (l *link) injectTCP(protocol tcpip.NetworkProtocolNumber, s segment) {
	view := buffer.NewViewWithData(s.packet)
	if s.flags&header.TCPFlagSyn != 0 {
		l.synchronize(view.AsSlice(), s)
	}
	l.inject(protocol, view)
}

// synchronize lowers the MSS in a SYN to what the path to its sender carries.
func (l *link) synchronize(packet []byte, s segment) {
	tcp, from := header.TCP(packet[s.ip:]), source(packet)
	mtu, _ := l.mtus.get(from)
	clampMSS(tcp, s.ip, mtu)
	if s.flags&header.TCPFlagAck != 0 {
		own := netip.AddrPortFrom(destination(packet), tcp.DestinationPort())
		l.beside.answered(streamHash(l.beside.seed, own, netip.AddrPortFrom(from, tcp.SourcePort())), tcp)
	}
}

// injectRun makes one packet of a run and gives it to gVisor.
func (l *link) injectRun(r *run, next *[BatchSize]int16, bufs [][]byte, offset int) {
	f := r.first
	protocol := header.IPv4ProtocolNumber
	if f.ip == header.IPv6MinimumSize {
		protocol = header.IPv6ProtocolNumber
	}
	if r.segments == 1 {
		l.inject(protocol, buffer.NewViewWithData(f.packet))
		return
	}
	view := buffer.NewView(r.size)
	view.Write(f.packet)
	packet := view.AsSlice()
	putLengths(packet[:f.ip], r.size-f.ip, 0)
	packet[f.ip+header.TCPFlagsOffset] = byte(f.flags)
	index, left := f.index, r.size-len(f.packet)
	for range r.segments - 1 {
		index = next[index]
		buf := bufs[index][offset:]
		n := min(left, f.payload())
		view.Write(buf[f.header : f.header+n])
		left -= n
	}
	l.inject(protocol, view)
}
