package relay

import (
	"sync"

	"nexd/key"
)

// ringSize is how many packets wait in a client's queues.
const ringSize = 256

// ring is a bounded queue of packets; over the bound the oldest is dropped.
type ring struct {
	mu     sync.Mutex
	closed bool
	items  [ringSize]ringItem
	first  int
	n      int
	wake   chan struct{} // holds one when there is something, or it was closed
}

type ringItem struct {
	peer key.Public
	buf  *frameBuf
}

func (r *ring) init() { r.wake = make(chan struct{}, 1) }

// push puts a packet in and takes over buf; dropped: the oldest gave way, or the ring is closed.
func (r *ring) push(peer key.Public, buf *frameBuf) (dropped bool) {
	r.mu.Lock()
	switch {
	case r.closed:
		frameBufs.Put(buf)
		r.mu.Unlock()
		return true
	case r.n == ringSize:
		frameBufs.Put(r.items[r.first].buf)
		r.first = (r.first + 1) % ringSize
		r.n--
		dropped = true
	}
	r.items[(r.first+r.n)%ringSize] = ringItem{peer, buf}
	r.n++
	r.mu.Unlock()
	r.signal()
	return dropped
}

func (r *ring) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// take hands items to f, oldest first, until f says no or none is left.
func (r *ring) take(f func(ringItem) bool) (taken int, closed bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.n > 0 && f(r.items[r.first]) {
		frameBufs.Put(r.items[r.first].buf)
		r.items[r.first] = ringItem{}
		r.first = (r.first + 1) % ringSize
		r.n--
		taken++
	}
	if r.n > 0 {
		r.signal() // for who comes next
	}
	return taken, r.closed
}

// close lets nothing more in and wakes who waits.
func (r *ring) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.signal()
}
