package netstack

import (
	"hash/maphash"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// besideWindow is the receive window of a connection to a nearby peer while
	// others are in use: what a ping may have to wait behind.
	besideWindow = 96 << 10
	// besideFor is how long others count as in use after a packet of theirs.
	besideFor = 100 * time.Millisecond
	// besideSlots is how many connections are known at a time; of those whose
	// hashes meet it is the one that was there first, unless it was idle for besideIdle.
	besideSlots = 512
	besideIdle  = time.Second
)

// beside lowers the windows that connections to nearby peers advertise while
// more than one connection is in use. gVisor's buffers stay as they are, and what
// was promised is kept: the right edge of a window never moves back (RFC 9293
// section 3.8.6.2.1), it only advances more slowly. As the window is never
// lowered to less than besideWindow, and each acknowledgement opens it again, no
// update is ever owed.
type beside struct {
	seed maphash.Seed

	mu     sync.Mutex // guards the fields below
	slots  [besideSlots]besideSlot
	last   uint64        // the flow that sent last
	lastAt time.Duration // and when, since began
	until  time.Duration // more than one is in use until then
}

// besideSlot is what is known of the window that one connection advertises.
type besideSlot struct {
	flow  uint64 // hash of its addresses and ports, as they are in packets that leave; 0: none
	used  time.Duration
	edge  uint32 // sequence number behind the window, as last advertised
	known bool   // there is an edge
	scale uint8  // RFC 7323 section 2
	stage besideStage
	near  *nearness // of its peer, in the stage near
}

type besideStage uint8

const (
	offered besideStage = iota + 1 // our SYN left with a window scale
	agreed                         // both sides have one; what is promised from now on counts
	near                           // established, and the peer is nearby
)

// began is what times here count from.
var began = time.Now()

func newBeside() *beside { return &beside{seed: maphash.MakeSeed()} }

// leave takes notice of a packet that is about to leave, and may lower its window.
func (b *beside) leave(pkt *stack.PacketBuffer) {
	tcp := header.TCP(pkt.TransportHeader().Slice())
	if pkt.TransportProtocolNumber != header.TCPProtocolNumber || len(tcp) < header.TCPMinimumSize {
		b.leaveAt(time.Since(began), max(1, uint64(pkt.TransportProtocolNumber)), nil)
		return
	}
	b.leaveAt(time.Since(began), max(1, flowHash(b.seed, pkt)), tcp)
}

func (b *beside) leaveAt(now time.Duration, flow uint64, tcp header.TCP) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if flow != b.last && b.last != 0 && now-b.lastAt < besideFor {
		b.until = now + besideFor
	}
	b.last, b.lastAt = flow, now
	if tcp == nil {
		return
	}
	s := &b.slots[flow%besideSlots]
	if tcp.Flags()&header.TCPFlagSyn != 0 {
		b.begin(now, s, flow, tcp)
		return
	}
	if s.flow != flow {
		return
	}
	s.used = now
	if s.stage >= agreed {
		s.advertise(tcp, now < b.until && s.near.holds())
	}
}

// begin notes the window scale in a SYN of ours.
func (b *beside) begin(now time.Duration, s *besideSlot, flow uint64, tcp header.TCP) {
	if s.flow != 0 && s.flow != flow && now-s.used < besideIdle {
		return
	}
	*s = besideSlot{}
	answer := tcp.Flags()&header.TCPFlagAck != 0
	scale := synScale(tcp)
	if scale < 0 {
		return // never agreed
	}
	*s = besideSlot{flow: flow, used: now, scale: uint8(scale), stage: offered}
	if answer {
		s.stage = agreed // an answer has one only if the SYN did
	}
}

// answered takes notice of a SYN that came from the peer with an acknowledgement,
// for a connection of that flow.
func (b *beside) answered(flow uint64, tcp header.TCP) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := &b.slots[flow%besideSlots]; s.flow == flow && s.stage == offered && synScale(tcp) >= 0 {
		s.stage = agreed
	}
}

// isNear says that the peer of an established connection is nearby, as long as n holds.
func (b *beside) isNear(flow uint64, n *nearness) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if s := &b.slots[flow%besideSlots]; s.flow == flow && s.stage == agreed {
		s.stage, s.near = near, n
	}
}

// advertise keeps the window of a segment within besideWindow when others are in
// use, but never takes back what was promised.
func (s *besideSlot) advertise(tcp header.TCP, others bool) {
	ack, window := tcp.AckNumber(), uint32(tcp.WindowSize())<<s.scale
	if others && window > besideWindow {
		least := uint32(besideWindow)
		if promised := s.edge - ack; s.known && int32(promised) > 0 {
			least = max(least, promised)
		}
		unit := uint32(1) << s.scale
		if units := (least + unit - 1) >> s.scale; units < uint32(tcp.WindowSize()) {
			tcp.SetWindowSize(uint16(units))
			window = units << s.scale
		}
	}
	if edge := ack + window; !s.known || int32(edge-s.edge) > 0 {
		s.edge, s.known = edge, true
	}
}

// synScale is the window scale option of a SYN; negative: it has none.
func synScale(tcp header.TCP) int {
	return header.ParseSynOptions(tcp.Options(), tcp.Flags()&header.TCPFlagAck != 0).WS
}
