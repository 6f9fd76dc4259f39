package netstack

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// catcher is a stack that keeps what is delivered.
type catcher struct{ packets [][]byte }

func (c *catcher) DeliverNetworkPacket(protocol tcpip.NetworkProtocolNumber, pkt *stack.PacketBuffer) {
	view := pkt.ToView()
	defer view.Release()
	c.packets = append(c.packets, bytes.Clone(view.AsSlice()))
}

func (*catcher) DeliverLinkPacket(tcpip.NetworkProtocolNumber, *stack.PacketBuffer) {}

// joined gives one batch to a link and returns what its stack gets. The packets
// go to there4 and there6.
func joined(t testing.TB, batch ...[]byte) [][]byte {
	t.Helper()
	d := newTestDevice(DefaultMTU)
	d.link.own.Store(&[]netip.Addr{there4, there6})
	c := &catcher{}
	d.link.Attach(c)
	const offset = 16
	bufs := make([][]byte, len(batch))
	for i, p := range batch {
		bufs[i] = append(make([]byte, offset), p...)
	}
	if n, err := d.Write(bufs, offset); n != len(batch) || err != nil {
		t.Fatal(n, err)
	}
	for i, p := range batch {
		if !bytes.Equal(bufs[i][offset:], p) {
			t.Fatal("Write changed a packet")
		}
	}
	if s := d.link.counters.snapshot(); s.RxPackets != uint64(len(batch)) {
		t.Fatalf("%d packets counted of %d", s.RxPackets, len(batch))
	}
	return c.packets
}

// cutTo cuts a segment to pieces of mss, which keeps the device's own cutting.
func (s sample) cutTo(t testing.TB, mss int) [][]byte {
	s.mss = uint16(mss)
	d := newTestDevice(MaxMTU)
	return sent(t, d, s.packet())
}

// recut cuts a joined packet to pieces of the given payload.
func recut(packet []byte, piece int) (pieces [][]byte) {
	var d segment
	d.packet = packet
	d.read()
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{ReserveHeaderBytes: d.header, Payload: bufferOf(packet[d.header:])})
	defer pkt.DecRef()
	pkt.TransportProtocolNumber = header.TCPProtocolNumber
	copy(pkt.TransportHeader().Push(d.header-d.ip), packet[d.ip:])
	copy(pkt.NetworkHeader().Push(d.ip), packet)
	p := part{pkt: pkt, shape: shape{cutting: segments, header: d.header, payload: d.payload(), piece: piece}}
	p.n = p.shape.pieces(0)
	w := p.start()
	for i := range p.n {
		out := make([]byte, p.shape.size(i*piece))
		p.put(&w, out, i*piece)
		pieces = append(pieces, out)
	}
	return pieces
}

// flowKey tells connections apart.
func flowKey(p []byte) string {
	ip := 20
	if p[0]>>4 == 6 {
		ip = 40
	}
	return fmt.Sprintf("%x %x", p[ip-8:ip], p[ip:ip+4])
}

// byFlow sorts packets by flow, with their order kept.
func byFlow(packets [][]byte) map[string][][]byte {
	m := map[string][][]byte{}
	for _, p := range packets {
		m[flowKey(p)] = append(m[flowKey(p)], p)
	}
	return m
}

// verify checks that out is what in becomes: cutting out again gives in, flow by
// flow and in its order.
func verify(t testing.TB, in, out [][]byte) {
	t.Helper()
	want, got := byFlow(in), byFlow(out)
	if len(want) != len(got) {
		t.Fatalf("%d flows came of %d", len(got), len(want))
	}
	for flow, packets := range want {
		rest := packets
		for _, p := range got[flow] {
			if len(rest) == 0 {
				t.Fatalf("more came than went in: %x", p)
			}
			if bytes.Equal(p, rest[0]) {
				rest = rest[1:]
				continue
			}
			decodeJoined(t, p)
			var first segment
			first.packet = rest[0]
			if first.read() != data {
				t.Fatalf("%x became %x", rest[0], p)
			}
			for _, piece := range recut(p, first.payload()) {
				if len(rest) == 0 {
					t.Fatal("more came than went in")
				}
				w := bytes.Clone(rest[0])
				if w[0]>>4 == 4 && !bytes.Equal(w[4:6], piece[4:6]) { // a number without a meaning
					if header.IPv4(w).Flags()&header.IPv4FlagDontFragment == 0 {
						t.Fatalf("IPv4 number %x, want %x", piece[4:6], w[4:6])
					}
					copy(piece[4:6], w[4:6])
					putIPv4Checksum(piece[:20])
				}
				if !bytes.Equal(piece, w) {
					t.Fatalf("cut again:\n%x\nwas\n%x", piece[:60], w[:60])
				}
				rest = rest[1:]
			}
		}
		if len(rest) != 0 {
			t.Fatalf("%d packets of a flow are lost", len(rest))
		}
	}
}

// decodeJoined checks the IP header of a joined packet; the checksum of TCP is
// that of its first piece, as nobody looks at it.
func decodeJoined(t testing.TB, p []byte) {
	t.Helper()
	if p[0]>>4 == 6 {
		if ip := header.IPv6(p); !ip.IsValid(len(p)) || int(ip.PayloadLength()) != len(p)-40 {
			t.Fatalf("%x", p[:40])
		}
		return
	}
	if ip := header.IPv4(p); !ip.IsValid(len(p)) || !ip.IsChecksumValid() || int(ip.TotalLength()) != len(p) {
		t.Fatalf("%x", p[:20])
	}
}

// FuzzJoin: segments of several connections, of all kinds, mixed with other
// packets, lost and out of order: each flow gets each byte once and in the order
// in which it came.
func FuzzJoin(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, uint8(seed*3), uint8(3), uint8(seed*11))
	}
	f.Fuzz(func(t *testing.T, seed uint64, flows, reorder, loss uint8) {
		dice := rand.New(rand.NewPCG(seed, 2))
		var batch [][]byte
		for flow := range 1 + int(flows)%12 {
			s := sample{
				v6: dice.IntN(2) == 0, protocol: header.TCPProtocolNumber, ports: [2]uint16{uint16(flow), 80},
				seq: dice.Uint32() | 0xffff0000, ack: dice.Uint32(), df: dice.IntN(2) == 0, id: uint16(dice.Uint32()),
			}
			for range 1 + dice.IntN(4) {
				s.flags = []header.TCPFlags{0x10, 0x18, 0x10, 0x11, 0x10, 0x50, 0x90, 0x12, 0x14, 0x30}[dice.IntN(10)]
				s.options = [][]byte{nil, timestamps}[dice.IntN(2)]
				s.tos = []uint8{0, 0, 2, 3}[dice.IntN(4)]
				s.payload = bytes.Repeat([]byte{byte(flow), byte(dice.Uint32())}, dice.IntN(8000))
				batch = append(batch, s.cutTo(t, 200+dice.IntN(3000))...)
				s.seq += uint32(len(s.payload))
				if dice.IntN(4) > 0 {
					s.id += uint16(len(s.payload))
				}
			}
		}
		for port := range uint16(3) {
			s := sample{v6: port&1 == 1, protocol: header.UDPProtocolNumber, ports: [2]uint16{100 + port, 53}, payload: []byte{1, 2, 3}}
			batch = append(batch, sent(t, newTestDevice(DefaultMTU), s.packet())...)
		}
		if reorder&1 == 1 { // each flow in order, all mixed
			batch = shuffleFlows(batch, dice)
		}
		for range reorder / 2 { // now and then out of order
			i := dice.IntN(len(batch))
			j := min(len(batch)-1, i+dice.IntN(3))
			batch[i], batch[j] = batch[j], batch[i]
		}
		kept := batch[:0]
		for _, p := range batch {
			if uint8(dice.Uint32()) >= loss/2 {
				kept = append(kept, p)
			}
		}
		if len(kept) > 0 {
			verify(t, kept, joined(t, kept...))
		}
	})
}

// shuffleFlows mixes flows and keeps the order within each.
func shuffleFlows(batch [][]byte, dice *rand.Rand) [][]byte {
	rest := byFlow(batch)
	order := make([]string, 0, len(batch))
	for _, p := range batch {
		order = append(order, flowKey(p))
	}
	dice.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	mixed := make([][]byte, 0, len(batch))
	for _, flow := range order {
		mixed = append(mixed, rest[flow][0])
		rest[flow] = rest[flow][1:]
	}
	return mixed
}

func TestJoin(t *testing.T) {
	base := sample{protocol: header.TCPProtocolNumber, ports: [2]uint16{1, 80}, options: timestamps, flags: 0x18, df: true, payload: make([]byte, 5000)}
	v6 := base
	v6.v6 = true
	other := base
	other.ports[0] = 2
	change := func(s sample, f func(s *sample)) sample { f(&s); return s }
	next := change(base, func(s *sample) { s.seq, s.id = 5000, 5 })
	ack := change(base, func(s *sample) { s.payload, s.seq, s.flags = nil, 5000, 0x10 })
	ping := sample{protocol: header.ICMPv4ProtocolNumber}
	open := change(base, func(s *sample) { s.flags = 0x10 })
	parts := func(list ...any) (batch [][]byte) {
		for _, s := range list {
			switch s := s.(type) {
			case sample:
				batch = append(batch, s.cutTo(t, 1000)...)
			case [][]byte:
				batch = append(batch, s...)
			}
		}
		return batch
	}
	many := make([]any, 9)
	for i := range many {
		many[i] = change(base, func(s *sample) { s.ports[0] = uint16(i) })
	}
	mixed := shuffleFlows(parts(base, other, v6), rand.New(rand.NewPCG(1, 1)))
	fragment := bytes.Clone(parts(base)[1])
	fragment[6] |= 0x20

	for _, test := range []struct {
		name  string
		batch [][]byte
		want  int
	}{
		{"one segment", parts(base), 1},
		{"over IPv6", parts(v6), 1},
		{"two segments, as the first ends with PSH", parts(base, next), 2},
		{"two segments without PSH between", parts(open, next), 1},
		{"three flows, one after the other", parts(base, other, v6), 3},
		{"three flows, mixed", mixed, 3},
		{"nine flows", parts(many...), 9},
		{"an acknowledgement behind", parts(base, ack), 2},
		{"a ping between", [][]byte{parts(base)[0], parts(ping)[0], parts(base)[1]}, 2},
		{"a reset between", parts(parts(open), change(base, func(s *sample) { s.payload, s.flags = nil, 0x14 }), parts(next)), 3},
		{"other acknowledgement", parts(open, change(next, func(s *sample) { s.ack = 1 })), 2},
		{"other timestamp", parts(open, change(next, func(s *sample) { s.options = append(timestamps[:11:11], 9) })), 2},
		{"other window", parts(open, change(next, func(s *sample) { s.window = 1 })), 2},
		{"told of congestion", parts(open, change(next, func(s *sample) { s.flags = 0x58 })), 2},
		{"a larger segment", append(parts(open), next.cutTo(t, 1200)...), 2},
		{"congestion experienced", parts(open, change(next, func(s *sample) { s.tos = 3 })), 2},
		{"may be fragmented", parts(open, change(next, func(s *sample) { s.df = false })), 2},
		{"a gap", append(parts(open)[:4], parts(next)...), 2},
		{"twice the same", parts(parts(open)[:2], parts(open)[:2]), 2},
		{"urgent", parts(change(base, func(s *sample) { s.flags = 0x38 })), 5},
		{"a fragment between", parts(parts(base)[:1], [][]byte{fragment}, parts(base)[1:]), 3},
		{"FIN", parts(change(base, func(s *sample) { s.flags = 0x11 })), 1},
		{"larger than a packet can be", parts(change(base, func(s *sample) { s.payload, s.flags = make([]byte, 40_000), 0x10 }), change(base, func(s *sample) { s.payload, s.seq, s.id = make([]byte, 40_000), 40_000, 40 })), 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := joined(t, test.batch...)
			verify(t, test.batch, got)
			if len(got) != test.want {
				t.Errorf("%d packets became %d, want %d", len(test.batch), len(got), test.want)
			}
		})
	}
}

// The MSS of a SYN that comes in is lowered to what the path to its sender carries.
func TestSYNThatComesIn(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		s := sample{v6: v6, protocol: header.TCPProtocolNumber, flags: header.TCPFlagSyn, options: synOptions}
		p := sent(t, newTestDevice(MaxMTU), s.packet())[0]
		got := joined(t, p)[0]
		headers := len(got) - len(synOptions)
		if mss := header.ParseSynOptions(got[headers:], false).MSS; int(mss) != DefaultMTU-headers {
			t.Errorf("IPv6 %v: MSS %d", v6, mss)
		}
	}
}
