package netstack

import (
	"net/netip"
	"sync"
	"sync/atomic"

	"gvisor.dev/gvisor/pkg/buffer"
)

// datagram is one received packet; data is nil when it is empty.
type datagram struct {
	from netip.AddrPort
	data *buffer.View
}

// inbox is the bounded queue of a socket's received datagrams. When it is full
// the newest is dropped.
type inbox struct {
	ready      chan struct{} // holds a token while there may be something to get
	maxPackets int
	maxBytes   int
	failed     atomic.Bool // err may be set

	mu     sync.Mutex // guards the fields below
	list   []datagram // list[head:] waits
	head   int
	bytes  int
	err    error // told once, to the next get or takeError
	closed error // why nothing comes any more; nil while open
}

func newInbox(maxPackets, maxBytes int) *inbox {
	return &inbox{ready: make(chan struct{}, 1), maxPackets: maxPackets, maxBytes: maxBytes}
}

// put takes ownership of d.data; it reports whether d was kept.
func (b *inbox) put(d datagram) bool {
	size := 0
	if d.data != nil {
		size = d.data.Size()
	}
	b.mu.Lock()
	keep := b.closed == nil && len(b.list)-b.head < b.maxPackets && b.bytes+size <= b.maxBytes
	if keep {
		if b.head > 0 && len(b.list) == cap(b.list) {
			n := copy(b.list, b.list[b.head:])
			clear(b.list[n:])
			b.list, b.head = b.list[:n], 0
		}
		b.list = append(b.list, d)
		b.bytes += size
	}
	b.mu.Unlock()
	if !keep {
		if d.data != nil {
			d.data.Release()
		}
		return false
	}
	b.signal()
	return true
}

// get moves the oldest datagrams to dst, or returns the pending error. n is 0
// when there is neither.
func (b *inbox) get(dst []datagram) (n int, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err = b.err; err != nil {
		b.err = nil
		b.signal() // what waits behind the error
		return 0, err
	}
	if b.head == len(b.list) {
		if b.closed != nil {
			b.signal() // the others who wait
		}
		return 0, b.closed
	}
	n = copy(dst, b.list[b.head:])
	clear(b.list[b.head : b.head+n])
	b.head += n
	for _, d := range dst[:n] {
		if d.data != nil {
			b.bytes -= d.data.Size()
		}
	}
	if b.head == len(b.list) {
		b.head = 0
		b.list = b.list[:0]
		if cap(b.list) > 64 { // give memory back after a peak
			b.list = nil
		}
	} else {
		b.signal()
	}
	return n, nil
}

// empty reports that get has neither a datagram nor an error.
func (b *inbox) empty() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.head == len(b.list) && b.err == nil && b.closed == nil
}

// fail leaves an error for the next call.
func (b *inbox) fail(err error) {
	b.mu.Lock()
	b.err = err
	b.failed.Store(true)
	b.mu.Unlock()
	b.signal()
}

// takeError returns the pending error, if any, and forgets it.
func (b *inbox) takeError() error {
	if !b.failed.Load() {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	err := b.err
	b.err = nil
	b.failed.Store(false)
	return err
}

// close drops everything; get returns why from now on, as the first close said.
func (b *inbox) close(why error) {
	b.mu.Lock()
	if b.closed == nil {
		b.closed = why
	}
	for _, d := range b.list[b.head:] {
		if d.data != nil {
			d.data.Release()
		}
	}
	b.list, b.head, b.bytes = nil, 0, 0
	b.mu.Unlock()
	b.signal()
}

func (b *inbox) signal() {
	select {
	case b.ready <- struct{}{}:
	default:
	}
}
