package relay

import (
	"encoding/binary"
	"sync"
)

const (
	// leastOutgoing is how many bytes may wait in a client's queue at any time,
	// with their lengths; four times that may before a relay that takes them fast.
	leastOutgoing = 256 << 10
	// together is how many messages leave by one write at most.
	together = 4
)

// outgoing holds frames for a relay over WebSocket, as the messages they will
// be. It is bounded; over the bound the oldest frames are dropped. What comes
// while a message is being written is added to the next one.
type outgoing struct {
	wake chan struct{} // holds one when there is something, or it was closed

	mu       sync.Mutex // guards the fields below
	closed   bool
	messages []*message // the oldest first
	bytes    int
	limit    depth
}

// message is one that is not written yet, with room for WebSocket's header.
type message struct {
	b    []byte
	from int // where the first frame begins; those before were dropped
}

var emptyMessages = sync.Pool{New: func() any { return &message{b: make([]byte, 0, writeChunk)} }}

func (q *outgoing) init() { q.wake, q.limit.least = make(chan struct{}, 1), leastOutgoing }

// push copies frames in, each of them head and one of the bodies, and returns
// how many frames were dropped: the oldest, or these if the queue is closed.
func (q *outgoing) push(head []byte, bodies ...[]byte) (dropped int) {
	q.mu.Lock()
	if q.closed {
		q.mu.Unlock()
		return len(bodies)
	}
	idle := q.bytes == 0
	for _, body := range bodies {
		n := lengthSize + len(head) + len(body)
		for q.bytes+n > q.limit.bytes() {
			q.dropOldest()
			dropped++
		}
		m := q.last(n)
		m.b = appendFramed(m.b, head, body)
		q.bytes += n
	}
	q.mu.Unlock()
	if idle {
		q.signal()
	}
	return dropped
}

// last returns the newest message if n bytes fit in, else another. The caller holds mu.
func (q *outgoing) last(n int) *message {
	if k := len(q.messages); k > 0 {
		if m := q.messages[k-1]; len(m.b)+n <= cap(m.b) {
			return m
		}
	}
	m := emptyMessages.Get().(*message)
	m.b, m.from = m.b[:wsHeadroom], wsHeadroom
	q.messages = append(q.messages, m)
	return m
}

// dropOldest drops a frame. There is one: the caller holds mu and has seen bytes.
func (q *outgoing) dropOldest() {
	m := q.messages[0]
	n := lengthSize + int(binary.BigEndian.Uint16(m.b[m.from:]))
	m.from += n
	q.bytes -= n
	if m.from == len(m.b) {
		q.shift(1)
		emptyMessages.Put(m)
	}
}

// shift takes the first n messages away. The caller holds mu.
func (q *outgoing) shift(n int) {
	k := copy(q.messages, q.messages[n:])
	clear(q.messages[k:])
	q.messages = q.messages[:k]
}

// take moves messages to into, as many as it has room for, and returns how
// many; [message.done] gives them back. now is in nanoseconds.
func (q *outgoing) take(into []*message, now int64) (n int, closed bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	n = copy(into, q.messages)
	before := q.bytes
	for _, m := range into[:n] {
		q.bytes -= len(m.b) - m.from
	}
	q.limit.took(before-q.bytes, now)
	q.shift(n)
	return n, q.closed
}

// room is the message for [wsConn.write].
func (m *message) room() []byte { return m.b[m.from-wsHeadroom:] }

func (m *message) done() { emptyMessages.Put(m) }

func (q *outgoing) signal() {
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

// close lets nothing more in and wakes who waits.
func (q *outgoing) close() {
	q.mu.Lock()
	q.closed = true
	q.mu.Unlock()
	q.signal()
}
