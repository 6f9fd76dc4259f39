package relay

import "sync"

// quantum is how many bytes a sender may have taken from the queue before the
// next one's turn.
const quantum = 4096

// leastCharge is what a frame counts for at least, in bytes: a short one takes
// as much memory as a packet of the usual size.
const leastCharge = 256

func charge(frame []byte) int { return max(len(frame), leastCharge) }

// fairQueue holds frames for one slow receiver. Senders take turns (deficit
// round robin), so that one that floods delays itself alone; over the bound
// the oldest frame of the sender with most bytes waiting is dropped.
type fairQueue struct {
	mu     sync.Mutex // guards the fields below
	limit  depth
	closed bool
	bytes  int                // as charged
	flows  map[*session]*flow // nil: the relay's own frames
	turns  []*flow            // those with frames, the first one's turn
}

// flow is what one sender has waiting.
type flow struct {
	from   *session
	frames []*frameBuf
	bytes  int // as charged
	credit int
}

// frameBuf is a pooled copy of a frame.
type frameBuf struct {
	b []byte
}

var frameBufs = sync.Pool{New: func() any { return &frameBuf{b: make([]byte, 0, 1600)} }}

func copyFrame(frame []byte) *frameBuf {
	f := frameBufs.Get().(*frameBuf)
	f.b = append(f.b[:0], frame...)
	return f
}

// push copies a frame in. It returns how many frames were dropped for it, and
// whether the queue was empty before.
func (q *fairQueue) push(from *session, frame []byte) (dropped int, first bool) {
	f := copyFrame(frame)
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.closed {
		frameBufs.Put(f)
		return 1, false
	}
	first = len(q.turns) == 0
	fl := q.flows[from]
	if fl == nil {
		if q.flows == nil {
			q.flows = map[*session]*flow{}
		}
		fl = &flow{from: from, credit: quantum}
		q.flows[from] = fl
		q.turns = append(q.turns, fl)
	}
	fl.frames = append(fl.frames, f)
	fl.bytes += charge(frame)
	q.bytes += charge(frame)
	for q.bytes > q.limit.bytes() {
		q.dropLongest()
		dropped++
	}
	return dropped, first
}

// dropLongest drops the oldest frame of the flow with most bytes. The limit is
// above two frames, so that one is never alone.
func (q *fairQueue) dropLongest() {
	longest := q.turns[0]
	for _, fl := range q.turns[1:] {
		if fl.bytes > longest.bytes {
			longest = fl
		}
	}
	frameBufs.Put(q.takeFrom(longest))
	if len(longest.frames) == 0 {
		q.retire(longest)
	}
}

// takeFrom takes the oldest frame of a flow.
func (q *fairQueue) takeFrom(fl *flow) *frameBuf {
	f := fl.frames[0]
	fl.frames[0] = nil
	fl.frames = fl.frames[1:]
	fl.bytes -= charge(f.b)
	q.bytes -= charge(f.b)
	return f
}

// retire forgets an empty flow.
func (q *fairQueue) retire(fl *flow) {
	delete(q.flows, fl.from)
	for i, other := range q.turns {
		if other == fl {
			q.turns = append(q.turns[:i], q.turns[i+1:]...)
			break
		}
	}
	if len(q.turns) == 0 {
		q.flows, q.turns = nil, nil // an idle session costs nothing here
	}
}

// pop appends frames with their lengths to a message, up to its capacity, and
// reports whether there were any. now is in nanoseconds.
func (q *fairQueue) pop(message []byte, now int64) ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	before := len(message)
	for len(q.turns) > 0 {
		fl := q.turns[0]
		next := fl.frames[0]
		if len(message)+lengthSize+len(next.b) > cap(message) {
			break
		}
		if fl.credit < len(next.b) {
			fl.credit += quantum
			if len(q.turns) > 1 {
				copy(q.turns, q.turns[1:])
				q.turns[len(q.turns)-1] = fl
			}
			continue
		}
		fl.credit -= len(next.b)
		f := q.takeFrom(fl)
		message = appendFramed(message, f.b, nil)
		frameBufs.Put(f)
		if len(fl.frames) == 0 {
			q.retire(fl)
		}
	}
	if len(message) == before {
		return message, false
	}
	q.limit.took(len(message)-before, now)
	return message, true
}

// close drops what is there and refuses what comes.
func (q *fairQueue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.bytes, q.flows, q.turns = 0, nil, nil
}
