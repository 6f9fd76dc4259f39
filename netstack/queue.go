package netstack

import (
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Limits of the queue of packets on their way from gVisor to WireGuard.
const (
	// TCP data waits for room above these, of its flow or of all. TCP would fill any
	// queue; two large segments are enough for WireGuard never to wait for a flow.
	// What waits is not copied: it is shared with the send buffers.
	flowBulkPackets  = 128
	flowBulkBytes    = 128 << 10
	queueBulkPackets = 1024
	queueBulkBytes   = 4 << 20
	// Above these something is dropped: of the flow that has most in the queue
	// and is not TCP data, or the newcomer itself; TCP data waits unless its flow
	// has nothing in the queue.
	queuePackets = 2048
	queueBytes   = 8 << 20
	// queueWait is how long TCP data waits without any packet being read before it
	// is dropped after all (TCP sends it again). It is reached only when nobody
	// reads the device; then nothing waits again until somebody does.
	queueWait = 250 * time.Millisecond
)

// verdict is what became of a packet offered to the queue.
type verdict uint8

const (
	queued        verdict = iota + 1
	queuedInstead         // of another packet, which was dropped
	droppedFull
	droppedClosed
)

// queue is the bounded queue between gVisor (many writers) and WireGuard's one
// reader. It is fair among flows (see flows). It holds one reference to each
// packet in it.
type queue struct {
	seed  maphash.Seed
	done  chan struct{} // closed by close
	ready chan struct{} // holds a token while the queue may be non-empty

	mu      sync.Mutex // guards the fields below
	flows   flows
	closed  bool
	reads   uint64
	stalled bool          // a writer has waited in vain since the last read
	room    chan struct{} // closed when writers that wait for all may try again; nil: nobody does
	id      uint32        // of the packet last fragmented
}

func newQueue() *queue {
	q := &queue{seed: maphash.MakeSeed(), done: make(chan struct{}), ready: make(chan struct{}, 1), id: rand.Uint32()}
	q.flows.init()
	return q
}

// push adds pkt and takes a reference of its own when it does. With wait it
// blocks while the flow's or the whole bulk share is used up, until there is
// room, the queue is closed, or nothing was read for queueWait; otherwise it
// never blocks.
func (q *queue) push(pkt *stack.PacketBuffer, wait bool) verdict {
	index := q.flowOf(pkt)
	size := pkt.Size()
	var timeout *time.Timer
	var reads uint64 // when it was set
	for {
		q.mu.Lock()
		f := &q.flows.table[index]
		if q.closed {
			q.mu.Unlock()
			return droppedClosed
		}
		if q.fitsLocked(f, size, wait) {
			q.flows.push(index, pkt, size, wait)
			q.mu.Unlock()
			q.signal()
			return queued
		}
		giveUp := !wait || q.stalled
		if giveUp || f.n == 0 {
			victim := q.makeRoomLocked(f, size)
			if victim != nil {
				q.flows.push(index, pkt, size, wait)
				q.mu.Unlock()
				victim.DecRef() // outside the lock: it may tell a socket that there is room
				q.signal()
				return queuedInstead
			}
			if giveUp {
				q.mu.Unlock()
				return droppedFull
			}
		}
		room, empty := q.roomLocked(f)
		now := q.reads
		q.mu.Unlock()

		if timeout == nil {
			timeout, reads = time.NewTimer(queueWait), now
			defer timeout.Stop()
		}
		select {
		case <-room:
		case <-empty:
		case <-q.done:
		case <-timeout.C:
			q.mu.Lock()
			q.stalled = q.stalled || q.reads == reads
			reads = q.reads
			q.mu.Unlock()
			timeout.Reset(queueWait)
		}
	}
}

// fitsLocked reports whether a packet may be added. An empty flow may always
// have one packet beside the others' bulk, so that no flow starves in the wait.
func (q *queue) fitsLocked(f *flow, size int, wait bool) bool {
	if q.flows.n >= queuePackets || q.flows.n > 0 && q.flows.bytes+size > queueBytes {
		return false
	}
	if !wait || f.n == 0 {
		return true
	}
	return f.n < flowBulkPackets && f.bytes+size <= flowBulkBytes &&
		q.flows.n < queueBulkPackets && q.flows.bytes+size <= queueBulkBytes
}

// roomLocked is what a writer of TCP data to f waits for: room in its share; or, where
// it is the whole queue that is full, room in that, or that f is empty.
func (q *queue) roomLocked(f *flow) (room, empty chan struct{}) {
	if f.n >= flowBulkPackets/2 || f.bytes >= flowBulkBytes/2 {
		return made(&f.room), nil
	}
	return made(&q.room), made(&f.empty)
}

func made(c *chan struct{}) chan struct{} {
	if *c == nil {
		*c = make(chan struct{})
	}
	return *c
}

// makeRoomLocked drops the oldest packet of the largest flow for one of f, or
// nothing when f itself is the largest or one packet is not enough.
func (q *queue) makeRoomLocked(f *flow, size int) *stack.PacketBuffer {
	index := q.flows.largest()
	if index < 0 {
		return nil
	}
	most := &q.flows.table[index]
	if most.weight() <= f.weight() || q.flows.bytes+size-q.flows.nodes[most.head].size > queueBytes {
		return nil
	}
	victim := q.flows.pop(most)
	q.wakeLocked(most)
	return victim
}

// wakeLocked lets the writer that waits for room in f try again, once half of its
// share is free, and the one that waits until f is empty.
func (q *queue) wakeLocked(f *flow) {
	if f.room != nil && f.n <= flowBulkPackets/2 && f.bytes <= flowBulkBytes/2 {
		close(f.room)
		f.room = nil
	}
	if f.empty != nil && f.n == 0 {
		close(f.empty)
		f.empty = nil
	}
}

// take moves parts of packets into dst, at least one, and hands over a reference
// for each: at most pieces packets together, whose sealed size stays within
// budget. It blocks while there is nothing and returns 0 once the queue is closed.
func (q *queue) take(dst []part, pieces, budget int, m *mtus) int {
	for {
		q.mu.Lock()
		if q.flows.n > 0 {
			n := q.moveLocked(dst, pieces, budget, m)
			more := q.flows.n > 0
			q.mu.Unlock()
			if more {
				q.signal()
			}
			return n
		}
		closed := q.closed
		q.mu.Unlock()
		if closed {
			return 0
		}
		select {
		case <-q.ready:
		case <-q.done:
		}
	}
}

// moveLocked does the moving of take. q.mu is held.
func (q *queue) moveLocked(dst []part, pieces, budget int, m *mtus) int {
	n := 0
	for n < len(dst) && pieces > 0 {
		f := q.flows.next()
		if f == nil {
			break
		}
		node := &q.flows.nodes[f.head]
		s := q.shapeLocked(node, m)
		count, cost := s.within(node.taken, pieces, budget)
		if count == 0 {
			if n > 0 {
				break
			}
			count, cost = 1, sealed(s.size(node.taken))
		}
		dst[n] = part{pkt: node.pkt, shape: s, from: node.taken, n: count, id: node.id}
		q.flows.takeFrom(f, count, s)
		pieces -= count
		budget -= cost
		n++
		q.wakeLocked(f)
	}
	q.reads++
	q.stalled = false
	// Waking writers at half lets them fill the queue in one go instead of
	// being woken for each packet.
	if q.room != nil && q.flows.n <= queueBulkPackets/2 && q.flows.bytes <= queueBulkBytes/2 {
		close(q.room)
		q.room = nil
	}
	return n
}

// shapeLocked is the shape of a packet, of which pieces may have been read when
// the MTU was another one.
func (q *queue) shapeLocked(n *node, m *mtus) shape {
	if n.id != 0 {
		ip := n.pkt.NetworkHeader().Slice()
		mtu, _ := m.get(destination(ip))
		return fragmentShape(ip, n.size, mtu)
	}
	s := shapeOf(n.pkt, m)
	if s.cutting == fragments {
		if q.id++; q.id == 0 {
			q.id++
		}
		n.id = q.id
	}
	return s
}

// close releases what is queued and makes every blocked call return. It
// returns how many packets were thrown away.
func (q *queue) close() int {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return 0
	}
	q.closed = true
	close(q.done)
	left := make([]*stack.PacketBuffer, 0, q.flows.n)
	for i := range q.flows.table {
		for f := &q.flows.table[i]; f.n > 0; {
			left = append(left, q.flows.pop(f))
		}
	}
	q.mu.Unlock()
	// Outside the lock: releasing a datagram tells its socket that there is room.
	for _, pkt := range left {
		pkt.DecRef()
	}
	return len(left)
}

func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.flows.n == 0
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}
