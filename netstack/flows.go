package netstack

import (
	"encoding/binary"
	"hash/maphash"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// flowCount is how many queues the flows share. Flows whose hashes meet are
	// one flow here: fair together.
	flowCount = 256
	// freshCredit is how many bytes a flow that had nothing in the queue sends
	// before all that had; what is larger waits its turn.
	freshCredit = 4 << 10
	// turnCredit is how many bytes a flow sends in a turn, which ends with a whole
	// segment: less than a full one, so that these take turns one by one.
	turnCredit = 48 << 10
	none       = -1
)

// flows are packets by flow, and whose turn it is: deficit round robin with
// precedence for flows that begin, after FQ-CoDel (RFC 8290 section 4). There is no
// CoDel in it: TCP data waits outside (see queue).
//
//	        push                 credit used,
//	idle ──────────────► fresh ──or empty────► waiting ─┐ turn over: to the end,
//	 ▲                                           │  ▲   │ with new credit
//	 └──────────────────── empty ────────────────┘  └───┘
//
// Packets of a flow never overtake each other.
type flows struct {
	table          [flowCount]flow
	nodes          [queuePackets]node
	free           int16 // list of nodes
	fresh, waiting list
	n, bytes       int
}

// flow is a queue of packets. Its packets are linked in their order.
type flow struct {
	head, tail int16 // nodes
	next       int16 // flow in the same list
	in         *list // nil: idle
	n, bytes   int
	credit     int
	room       chan struct{} // closed when its writer may try again; nil: none waits
	empty      chan struct{} // closed when n is 0; nil: nobody waits for that
}

// weight is how much of the queue a flow takes.
func (f *flow) weight() int { return f.bytes + f.n*(queueBytes/queuePackets/16) }

type node struct {
	pkt   *stack.PacketBuffer
	size  int    // of pkt
	taken int    // bytes of its payload that were read
	id    uint32 // of its fragments; 0: not fragmented
	bulk  bool
	next  int16
}

// list holds flows in the order of their turns.
type list struct{ head, tail int16 }

func (fs *flows) init() {
	for i := range fs.nodes {
		fs.nodes[i].next = int16(i + 1)
	}
	fs.nodes[queuePackets-1].next = none
	fs.fresh, fs.waiting = list{none, none}, list{none, none}
	for i := range fs.table {
		fs.table[i].head, fs.table[i].tail = none, none
	}
}

// push adds a packet, for which there is a node.
func (fs *flows) push(index int, pkt *stack.PacketBuffer, size int, bulk bool) {
	i := fs.free
	fs.free = fs.nodes[i].next
	fs.nodes[i] = node{pkt: pkt.IncRef(), size: size, bulk: bulk, next: none}
	f := &fs.table[index]
	if f.n == 0 {
		f.head = i
	} else {
		fs.nodes[f.tail].next = i
	}
	f.tail = i
	f.n++
	f.bytes += size
	fs.n++
	fs.bytes += size
	if f.in == nil {
		f.credit = freshCredit
		fs.append(&fs.fresh, index)
	}
}

// pop removes the oldest packet of a flow; its reference is the caller's.
func (fs *flows) pop(f *flow) *stack.PacketBuffer {
	i := f.head
	node := &fs.nodes[i]
	pkt := node.pkt
	f.head = node.next
	f.n--
	f.bytes -= node.size
	fs.n--
	fs.bytes -= node.size
	node.pkt, node.next = nil, fs.free
	fs.free = i
	return pkt
}

// next returns the flow whose turn it is; nil when all are empty.
func (fs *flows) next() *flow {
	for {
		l := &fs.fresh
		if l.head == none {
			l = &fs.waiting
		}
		if l.head == none {
			return nil
		}
		index := l.head
		f := &fs.table[index]
		switch {
		case f.n == 0:
			fs.remove(l)
			// A flow that empties and begins again all the time must not
			// overtake those that wait.
			if l == &fs.fresh && fs.waiting.head != none {
				fs.append(&fs.waiting, int(index))
			}
		case f.credit <= 0 || l == &fs.fresh && fs.nodes[f.head].size > f.credit:
			fs.remove(l)
			f.credit += turnCredit
			fs.append(&fs.waiting, int(index))
		default:
			return f
		}
	}
}

// takeFrom counts pieces of a flow's oldest packet as read. Unless they are the
// last the packet stays, and its reference for them is a new one.
func (fs *flows) takeFrom(f *flow, count int, s shape) {
	node := &fs.nodes[f.head]
	if count < s.pieces(node.taken) {
		node.pkt.IncRef()
		node.taken += count * s.piece
		return
	}
	f.credit -= node.size
	fs.pop(f)
}

// largest returns the flow that weighs most of those whose oldest packet may be
// dropped: none that is TCP data, or whose first pieces were read.
func (fs *flows) largest() int {
	index, most := none, 0
	for i := range fs.table {
		f := &fs.table[i]
		if f.n == 0 || fs.nodes[f.head].bulk || fs.nodes[f.head].taken > 0 {
			continue
		}
		if w := f.weight(); w > most {
			index, most = i, w
		}
	}
	return index
}

func (fs *flows) append(l *list, index int) {
	f := &fs.table[index]
	f.in, f.next = l, none
	if l.head == none {
		l.head = int16(index)
	} else {
		fs.table[l.tail].next = int16(index)
	}
	l.tail = int16(index)
}

// remove takes the first flow off a list.
func (fs *flows) remove(l *list) {
	f := &fs.table[l.head]
	l.head = f.next
	f.in = nil
}

// flowOf returns the flow of a packet by addresses, protocol and ports.
func (q *queue) flowOf(pkt *stack.PacketBuffer) int {
	return int(flowHash(q.seed, pkt) % flowCount)
}

// flowHash is the same for all packets of a connection in one direction.
func flowHash(seed maphash.Seed, pkt *stack.PacketBuffer) uint64 {
	var id flowID
	ip := pkt.NetworkHeader().Slice()
	switch {
	case len(ip) >= header.IPv6MinimumSize && ip[0]>>4 == 6:
		copy(id[:], ip[8:40])
	case len(ip) >= header.IPv4MinimumSize:
		copy(id[:], ip[12:20])
	}
	id[32] = byte(pkt.TransportProtocolNumber)
	switch pkt.TransportProtocolNumber {
	case header.TCPProtocolNumber, header.UDPProtocolNumber:
		copy(id[33:], pkt.TransportHeader().Slice())
	}
	return maphash.Bytes(seed, id[:])
}

// flowID is what a flow is known by: source and destination, 8 bytes together for
// IPv4 and 32 for IPv6, at 32 the protocol, and the ports.
type flowID [37]byte

// streamHash is the flowHash of the packets that a TCP connection sends from one
// address to another.
func streamHash(seed maphash.Seed, from, to netip.AddrPort) uint64 {
	var id flowID
	n := copy(id[:], from.Addr().AsSlice())
	copy(id[n:], to.Addr().AsSlice())
	id[32] = byte(header.TCPProtocolNumber)
	binary.BigEndian.PutUint16(id[33:], from.Port())
	binary.BigEndian.PutUint16(id[35:], to.Port())
	return maphash.Bytes(seed, id[:])
}
