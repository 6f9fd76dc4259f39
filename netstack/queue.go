package netstack

import (
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// Limits of the queue of packets on their way from gVisor to WireGuard.
const (
	// Segments that carry TCP data wait for room above these. TCP would fill
	// any queue, so its share is smaller than the whole: what is left keeps
	// pings, datagrams and acknowledgements moving during a bulk transfer.
	queueBulkPackets = 512
	queueBulkBytes   = 1 << 20
	// Everything else is dropped above these.
	queuePackets = 2048
	queueBytes   = 4 << 20
	// queueWait is how long a TCP segment waits before it is dropped after all
	// (TCP sends it again). It is reached only when nobody reads the device; then
	// nothing waits again until somebody does.
	queueWait = 250 * time.Millisecond
)

// verdict is what became of a packet offered to the queue.
type verdict uint8

const (
	queued verdict = iota + 1
	droppedFull
	droppedClosed
)

// queue is the bounded queue between gVisor (many writers) and WireGuard's
// reader. It holds one reference to each packet in it.
type queue struct {
	done  chan struct{} // closed by close
	ready chan struct{} // holds a token while the ring may be non-empty

	mu      sync.Mutex // guards the fields below
	ring    [queuePackets]*stack.PacketBuffer
	head, n int
	bytes   int
	closed  bool
	stalled bool          // a writer has waited in vain since the last read
	room    chan struct{} // closed when waiting writers may try again; nil: nobody waits
}

func newQueue() *queue {
	return &queue{done: make(chan struct{}), ready: make(chan struct{}, 1)}
}

// push adds pkt and takes a reference of its own when it does. With wait it
// blocks while the bulk share is used up, until there is room, the queue is
// closed, or queueWait has passed; otherwise it never blocks.
func (q *queue) push(pkt *stack.PacketBuffer, wait bool) verdict {
	size := pkt.Size()
	maxPackets, maxBytes := queuePackets, queueBytes
	if wait {
		maxPackets, maxBytes = queueBulkPackets, queueBulkBytes
	}
	var timeout *time.Timer
	for {
		q.mu.Lock()
		switch {
		case q.closed:
			q.mu.Unlock()
			return droppedClosed
		case q.n < maxPackets && (q.n == 0 || q.bytes+size <= maxBytes):
			q.ring[(q.head+q.n)%queuePackets] = pkt.IncRef()
			q.n++
			q.bytes += size
			q.mu.Unlock()
			q.signal()
			return queued
		case !wait || q.stalled:
			q.mu.Unlock()
			return droppedFull
		}
		if q.room == nil {
			q.room = make(chan struct{})
		}
		room := q.room
		q.mu.Unlock()

		if timeout == nil {
			timeout = time.NewTimer(queueWait)
			defer timeout.Stop()
		}
		select {
		case <-room:
		case <-q.done:
		case <-timeout.C:
			q.mu.Lock()
			q.stalled = true
			q.mu.Unlock()
		}
	}
}

// take moves up to len(dst) packets whose cost together stays within budget
// into dst, at least one, and hands over their references. It blocks while
// there is none and returns 0 once the queue is closed.
func (q *queue) take(dst []*stack.PacketBuffer, budget int, cost func(size int) int) int {
	for {
		q.mu.Lock()
		if q.n > 0 {
			n := q.moveLocked(dst, budget, cost)
			more := q.n > 0
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
func (q *queue) moveLocked(dst []*stack.PacketBuffer, budget int, cost func(size int) int) int {
	n := 0
	for n < len(dst) && q.n > 0 {
		pkt := q.ring[q.head]
		size := pkt.Size()
		if budget -= cost(size); budget < 0 && n > 0 {
			break
		}
		q.ring[q.head] = nil
		q.head = (q.head + 1) % queuePackets
		q.n--
		q.bytes -= size
		dst[n] = pkt
		n++
	}
	q.stalled = false
	// Waking writers at half lets them fill the queue in one go instead of
	// being woken for each packet.
	if q.room != nil && q.n <= queueBulkPackets/2 && q.bytes <= queueBulkBytes/2 {
		close(q.room)
		q.room = nil
	}
	return n
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
	left := make([]*stack.PacketBuffer, 0, q.n)
	for ; q.n > 0; q.n-- {
		left = append(left, q.ring[q.head])
		q.ring[q.head] = nil
		q.head = (q.head + 1) % queuePackets
	}
	q.bytes = 0
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
	return q.n == 0
}

func (q *queue) signal() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}
