package netstack

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// sample is a packet as gVisor hands it to the link.
type sample struct {
	v6       bool
	protocol tcpip.TransportProtocolNumber
	ports    [2]uint16
	seq, ack uint32
	flags    header.TCPFlags
	options  []byte // of TCP
	window   uint16 // on top of 1000
	tos      uint8
	df       bool
	id       uint16
	payload  []byte
	mss      uint16 // with which the segment is offered as a large one; 0: as a plain one
	views    int    // how many pieces of memory the payload is in
}

var (
	here4, there4 = netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("100.64.0.2")
	here6, there6 = netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
)

// packet makes the packet without checksums of TCP and UDP, as gVisor does for a
// link that makes them.
func (s sample) packet() *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: 160})
	views := max(1, s.views)
	for rest := s.payload; len(rest) > 0; {
		n := min(len(rest), len(s.payload)/views+1)
		pkt.Data().AppendView(buffer.NewViewWithData(rest[:n]))
		rest = rest[n:]
	}
	pkt.TransportProtocolNumber = s.protocol
	switch s.protocol {
	case header.TCPProtocolNumber:
		size := header.TCPMinimumSize + len(s.options)
		tcp := header.TCP(pkt.TransportHeader().Push(size))
		tcp.Encode(&header.TCPFields{
			SrcPort: s.ports[0], DstPort: s.ports[1], SeqNum: s.seq, AckNum: s.ack,
			DataOffset: uint8(size), Flags: s.flags, WindowSize: 1000 + s.window,
		})
		copy(tcp[header.TCPMinimumSize:], s.options)
		if s.mss > 0 {
			pkt.GSOOptions = stack.GSO{Type: stack.GSOTCPv4, NeedsCsum: true, MSS: s.mss}
			tcp.SetChecksum(0x1234) // gVisor leaves the sum of the pseudo-header here
		}
	case header.UDPProtocolNumber:
		header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize)).Encode(&header.UDPFields{
			SrcPort: s.ports[0], DstPort: s.ports[1], Length: uint16(header.UDPMinimumSize + len(s.payload)),
		})
	default: // an echo request, whose checksum gVisor makes
		icmp := header.ICMPv4(pkt.TransportHeader().Push(header.ICMPv4MinimumSize))
		icmp.SetType(header.ICMPv4Echo)
		icmp.SetChecksum(header.ICMPv4Checksum(icmp, pkt.Data().Checksum()))
	}
	size := pkt.Size()
	if s.v6 {
		header.IPv6(pkt.NetworkHeader().Push(header.IPv6MinimumSize)).Encode(&header.IPv6Fields{
			PayloadLength: uint16(size), TransportProtocol: s.protocol, HopLimit: 64, TrafficClass: s.tos,
			SrcAddr: toAddress(here6), DstAddr: toAddress(there6),
		})
		return pkt
	}
	ip := header.IPv4(pkt.NetworkHeader().Push(header.IPv4MinimumSize))
	fields := header.IPv4Fields{
		TotalLength: uint16(header.IPv4MinimumSize + size), ID: s.id, TTL: 64, TOS: s.tos, Protocol: uint8(s.protocol),
		SrcAddr: toAddress(here4), DstAddr: toAddress(there4),
	}
	if s.df {
		fields.Flags = header.IPv4FlagDontFragment
	}
	ip.Encode(&fields)
	ip.SetChecksum(^ip.CalculateChecksum())
	return pkt
}

// sent hands packets to a link and reads all that comes out of its device.
func sent(t testing.TB, d *device, packets ...*stack.PacketBuffer) [][]byte {
	t.Helper()
	for _, pkt := range packets {
		if v := d.link.queue.push(pkt, false); v != queued {
			t.Fatalf("push: %v", v)
		}
		pkt.DecRef()
	}
	return drain(t, d)
}

func drain(t testing.TB, d *device) (all [][]byte) {
	t.Helper()
	const offset = 16
	bufs, sizes := drainBuffers(), make([]int, BatchSize)
	for !d.link.queue.empty() {
		n, err := d.Read(bufs, sizes, offset)
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for i := range n {
			if size := sealed(sizes[i]); size > smallPacket {
				total += size
			}
			all = append(all, bytes.Clone(bufs[i][offset:offset+sizes[i]]))
		}
		if total > readBudget && n > 1 {
			t.Fatalf("%d packets of %d bytes in one read", n, total)
		}
	}
	return all
}

// drainBuffers are made once, as each run of a fuzz test needs them.
var drainBuffers = sync.OnceValue(func() [][]byte {
	bufs := make([][]byte, BatchSize)
	for i := range bufs {
		bufs[i] = make([]byte, 16+MaxMTU)
	}
	return bufs
})

func newTestDevice(own int) *device { return newDevice(newLink(own, false)) }

// decoded is a packet that left, read by gVisor's parsers.
type decoded struct {
	ip, segment []byte
	payload     []byte
	protocol    tcpip.TransportProtocolNumber
}

// decode checks an unfragmented packet: lengths and checksums.
func decode(t testing.TB, packet []byte) decoded {
	t.Helper()
	var d decoded
	var src, dst tcpip.Address
	if packet[0]>>4 == 6 {
		ip := header.IPv6(packet)
		if !ip.IsValid(len(packet)) || int(ip.PayloadLength()) != len(packet)-header.IPv6MinimumSize {
			t.Fatalf("IPv6 header %x of %d bytes", packet[:40], len(packet))
		}
		d = decoded{ip: packet[:40], segment: packet[40:], protocol: tcpip.TransportProtocolNumber(ip.NextHeader())}
		src, dst = ip.SourceAddress(), ip.DestinationAddress()
	} else {
		ip := header.IPv4(packet)
		if !ip.IsValid(len(packet)) || !ip.IsChecksumValid() || int(ip.TotalLength()) != len(packet) {
			t.Fatalf("IPv4 header %x of %d bytes", packet[:20], len(packet))
		}
		d = decoded{ip: packet[:20], segment: packet[20:], protocol: ip.TransportProtocol()}
		src, dst = ip.SourceAddress(), ip.DestinationAddress()
	}
	switch d.protocol {
	case header.TCPProtocolNumber:
		tcp := header.TCP(d.segment)
		d.payload = tcp.Payload()
		if !tcp.IsChecksumValid(src, dst, checksum.Checksum(d.payload, 0), uint16(len(d.payload))) {
			t.Fatalf("TCP checksum of %x", d.segment[:20])
		}
	case header.UDPProtocolNumber:
		udp := header.UDP(d.segment)
		d.payload = udp.Payload()
		if int(udp.Length()) != len(d.segment) || udp.Checksum() == 0 || !udp.IsChecksumValid(src, dst, checksum.Checksum(d.payload, 0)) {
			t.Fatalf("UDP checksum or length of %x", d.segment[:8])
		}
	default:
		d.payload = d.segment[header.ICMPv4MinimumSize:]
		if checksum.Checksum(d.segment, 0) != 0xffff {
			t.Fatalf("ICMP checksum of %x", d.segment[:8])
		}
	}
	return d
}

// reassemble joins fragments to the packet they are of.
func reassemble(t testing.TB, pieces [][]byte) []byte {
	t.Helper()
	var whole []byte
	for i, p := range pieces {
		more, from, ip := false, 0, 20
		if p[0]>>4 == 6 {
			ip = 48
			extension := header.IPv6Fragment(p[40:48])
			more, from = extension.More(), int(extension.FragmentOffset())*8
			if p[6] != header.IPv6FragmentHeader || !bytes.Equal(p[44:48], pieces[0][44:48]) {
				t.Fatalf("fragment %x", p[:48])
			}
		} else {
			h := header.IPv4(p)
			more, from = h.More(), int(h.FragmentOffset())
			if !h.IsValid(len(p)) || !h.IsChecksumValid() || h.ID() != header.IPv4(pieces[0]).ID() || h.Flags()&header.IPv4FlagDontFragment != 0 {
				t.Fatalf("fragment %x", p[:20])
			}
		}
		if i == 0 {
			whole = append(whole, p[:ip]...)
		}
		if from != len(whole)-ip || more != (i < len(pieces)-1) || more && (len(p)-ip)%8 != 0 {
			t.Fatalf("fragment %d: from %d, more %v, after %d bytes", i, from, more, len(whole)-ip)
		}
		whole = append(whole, p[ip:]...)
	}
	if whole[0]>>4 == 6 {
		whole[6] = whole[40]
		whole = append(whole[:40], whole[48:]...)
		binary.BigEndian.PutUint16(whole[4:], uint16(len(whole)-40))
		return whole
	}
	h := header.IPv4(whole)
	h.SetTotalLength(uint16(len(whole)))
	h.SetFlagsFragmentOffset(0, 0)
	h.SetChecksum(0)
	h.SetChecksum(^h.CalculateChecksum())
	return whole
}

// check compares what left with what gVisor handed down.
func check(t testing.TB, s sample, pieces [][]byte, mtu int) {
	t.Helper()
	for _, p := range pieces {
		if len(p) > mtu {
			t.Fatalf("a packet of %d bytes, MTU %d", len(p), mtu)
		}
	}
	if s.protocol != header.TCPProtocolNumber {
		whole := pieces[0]
		if len(pieces) > 1 {
			whole = reassemble(t, pieces)
		}
		if d := decode(t, whole); !bytes.Equal(d.payload, s.payload) {
			t.Fatal("the payload changed")
		}
		return
	}
	var got []byte
	for i, p := range pieces {
		d := decode(t, p)
		tcp := header.TCP(d.segment)
		last := i == len(pieces)-1
		want := s.flags
		if !last {
			want &^= header.TCPFlagFin | header.TCPFlagPsh
		}
		if i > 0 {
			want &^= header.TCPFlagCwr
		}
		if tcp.SequenceNumber() != s.seq+uint32(len(got)) || tcp.AckNumber() != s.ack || tcp.Flags() != want || tcp.WindowSize() != 1000 {
			t.Fatalf("piece %d of %d: %x, flags %v, want %v", i, len(pieces), d.segment[:20], tcp.Flags(), want)
		}
		if s.flags&header.TCPFlagSyn == 0 && !bytes.Equal(d.segment[20:tcp.DataOffset()], s.options) {
			t.Fatalf("options of piece %d: %x", i, d.segment[20:tcp.DataOffset()])
		}
		if p[0]>>4 == 4 && (header.IPv4(p).ID() != s.id+uint16(i) || (header.IPv4(p).Flags()&header.IPv4FlagDontFragment != 0) != s.df) {
			t.Fatalf("IPv4 header of piece %d: %x", i, p[:20])
		}
		if s.mss > 0 && !last && len(d.payload)%int(s.mss) != 0 && len(p) != mtu {
			t.Fatalf("piece %d of %d bytes, MSS %d", i, len(d.payload), s.mss)
		}
		got = append(got, d.payload...)
	}
	if !bytes.Equal(got, s.payload) {
		t.Fatal("the payload changed")
	}
}

var (
	timestamps = []byte{1, 1, 8, 10, 0, 0, 1, 2, 0, 0, 3, 4}
	synOptions = []byte{2, 4, 0xff, 0xff, 1, 3, 3, 7, 4, 2, 1, 1}
)

// FuzzCut: whatever gVisor hands down leaves as right packets within the MTU that
// carry the same bytes.
func FuzzCut(f *testing.F) {
	f.Add(uint64(1), uint8(0), uint16(58960), uint16(1420), uint16(1340), uint8(0x19))
	f.Add(uint64(2), uint8(1), uint16(58960), uint16(1280), uint16(8840), uint8(0x98))
	f.Add(uint64(3), uint8(0), uint16(100), uint16(1420), uint16(0), uint8(2))
	f.Add(uint64(4), uint8(2), uint16(65507), uint16(1420), uint16(0), uint8(0))
	f.Add(uint64(5), uint8(3), uint16(65507), uint16(1300), uint16(0), uint8(0))
	f.Add(uint64(6), uint8(4), uint16(9000), uint16(8920), uint16(0), uint8(0))
	f.Add(uint64(7), uint8(1), uint16(60000), uint16(8920), uint16(1220), uint8(0x10))
	f.Fuzz(func(t *testing.T, seed uint64, kind uint8, size, mtu, mss uint16, flags uint8) {
		dice := rand.New(rand.NewPCG(seed, 1))
		s := sample{
			v6: kind&1 == 1, protocol: header.TCPProtocolNumber, ports: [2]uint16{1000, 80}, seq: dice.Uint32(), ack: dice.Uint32(),
			flags: header.TCPFlags(flags) &^ header.TCPFlagUrg, tos: uint8(dice.Uint32()), df: dice.IntN(2) == 0, id: uint16(dice.Uint32()),
			views: 1 + dice.IntN(5), mss: mss,
		}
		limit := 65535 - 40
		switch kind / 2 % 3 {
		case 0:
			s.options = [][]byte{nil, timestamps, append(timestamps[:12:12], make([]byte, 28)...)}[dice.IntN(3)]
			if s.flags&header.TCPFlagSyn != 0 {
				s.options, size = synOptions, 0
			}
			limit -= 40
			if s.mss > 0 {
				s.mss = max(s.mss, 200)
			}
		case 1:
			s.protocol = header.UDPProtocolNumber
		case 2:
			s.v6, s.protocol = false, header.ICMPv4ProtocolNumber
		}
		s.payload = make([]byte, min(int(size), limit))
		for i := range s.payload {
			s.payload[i] = byte(dice.Uint32())
		}
		d := newTestDevice(DefaultMTU)
		to := there4
		if s.v6 {
			to = there6
		}
		path := min(max(int(mtu), MinMTU), MaxPathMTU)
		d.link.mtus.set(to, path)
		pieces := sent(t, d, s.packet())
		check(t, s, pieces, path)
		if s.flags&header.TCPFlagSyn != 0 && s.protocol == header.TCPProtocolNumber {
			headers := len(pieces[0]) - header.TCPMinimumSize - len(synOptions) + header.TCPMinimumSize
			if got := header.ParseSynOptions(pieces[0][len(pieces[0])-len(synOptions):], false); int(got.MSS) != path-headers {
				t.Fatalf("MSS %d of a SYN, MTU %d", got.MSS, path)
			}
		}
	})
}

// The MTU may change while a packet is being read.
func TestCutWhileTheMTUChanges(t *testing.T) {
	bufs, sizes := [][]byte{make([]byte, MaxMTU)}, make([]int, 1)
	for _, protocol := range []tcpip.TransportProtocolNumber{header.TCPProtocolNumber, header.UDPProtocolNumber} {
		for _, change := range [][2]int{{1280, 8920}, {8920, 1280}} {
			d := newTestDevice(DefaultMTU)
			d.link.mtus.set(there4, change[0])
			s := sample{protocol: protocol, payload: bytes.Repeat([]byte("abcdefg"), 8000), seq: 7, flags: header.TCPFlagAck, df: true}
			pkt := s.packet()
			d.link.queue.push(pkt, false)
			pkt.DecRef()
			var pieces [][]byte
			for range 2 {
				if _, err := d.Read(bufs, sizes, 0); err != nil || sizes[0] > change[0] {
					t.Fatal(sizes[0], err)
				}
				pieces = append(pieces, bytes.Clone(bufs[0][:sizes[0]]))
			}
			d.link.mtus.set(there4, change[1])
			rest := drain(t, d)
			if len(rest[0]) > change[1] {
				t.Errorf("%d bytes, MTU %d", len(rest[0]), change[1])
			}
			pieces = append(pieces, rest...)
			if protocol == header.UDPProtocolNumber {
				check(t, s, pieces, 8920)
				continue
			}
			var got []byte
			for _, p := range pieces {
				x := decode(t, p)
				if header.TCP(x.segment).SequenceNumber() != 7+uint32(len(got)) {
					t.Fatal("a gap")
				}
				got = append(got, x.payload...)
			}
			if !bytes.Equal(got, s.payload) {
				t.Error("the payload changed")
			}
		}
	}
}

// One of gVisor's largest segments is one batch, at every MTU.
func TestSegmentIsOneBatch(t *testing.T) {
	for mtu := MinMTU; mtu <= MaxPathMTU; mtu += 20 {
		for _, v6 := range []bool{false, true} {
			d := newTestDevice(DefaultMTU)
			d.link.mtus.set(there4, mtu)
			d.link.mtus.set(there6, mtu)
			s := sample{v6: v6, protocol: header.TCPProtocolNumber, options: timestamps, payload: make([]byte, gsoMaxSize-161), flags: header.TCPFlagAck}
			s.mss = uint16(mtu - 80)
			if v6 {
				s.mss -= 20
			}
			pkt := s.packet()
			d.link.queue.push(pkt, true)
			pkt.DecRef()
			dst := make([]part, 8)
			if n := d.link.queue.take(dst, BatchSize, readBudget, &d.link.mtus); n != 1 || !d.link.queue.empty() {
				t.Fatalf("MTU %d, IPv6 %v: a segment of %d bytes is not one batch", mtu, v6, len(s.payload))
			}
			dst[0].pkt.DecRef()
		}
	}
}

func FuzzCopySum(f *testing.F) {
	f.Add([]byte("some bytes, and more of them: an odd number, in words and tails"), uint16(3))
	f.Fuzz(func(t *testing.T, data []byte, initial uint16) {
		dst := make([]byte, len(data))
		sum := copySum(dst, data, addBig(0, initial))
		want := checksum.Checksum(data, initial)
		var got [2]byte
		putChecksum(got[:], sum)
		if binary.BigEndian.Uint16(got[:]) != ^want || !bytes.Equal(dst, data) {
			t.Errorf("%x, want %x", got, ^want)
		}
		putChecksum(got[:], addBytes(addBig(0, initial), data))
		if binary.BigEndian.Uint16(got[:]) != ^want {
			t.Errorf("%x, want %x", got, ^want)
		}
	})
}

func bufferOf(b []byte) buffer.Buffer { return buffer.MakeWithData(b) }
