package bind

import (
	"net"
	"sync"

	"golang.zx2c4.com/wireguard/conn"
)

const (
	ringPackets = 512
	ringBytes   = 1 << 20
	ringBuffer  = 2048 // bytes of a pooled buffer
)

// ring holds packets that did not come by the inner socket until WireGuard
// reads them. It has room for 512 packets and 1 MiB; a packet that finds it
// full takes the place of the oldest.
type ring struct {
	wake chan struct{} // holds one token while there may be packets

	mu    sync.Mutex // guards the fields below
	items [ringPackets]ringItem
	first int
	n     int
	bytes int
}

type ringItem struct {
	packet *[]byte // of the pool
	from   conn.Endpoint
}

var ringBuffers = sync.Pool{New: func() any {
	b := make([]byte, 0, ringBuffer)
	return &b
}}

func newRing() *ring { return &ring{wake: make(chan struct{}, 1)} }

// push copies a packet into the ring and returns how many had to go.
func (r *ring) push(packet []byte, from conn.Endpoint) (dropped int) {
	buf := ringBuffers.Get().(*[]byte)
	*buf = append((*buf)[:0], packet...)
	r.mu.Lock()
	for r.n > 0 && (r.n == ringPackets || r.bytes+len(packet) > ringBytes) {
		r.popLocked()
		dropped++
	}
	r.items[(r.first+r.n)%ringPackets] = ringItem{buf, from}
	r.n++
	r.bytes += len(packet)
	r.mu.Unlock()
	select {
	case r.wake <- struct{}{}:
	default:
	}
	return dropped
}

// take moves packets into bufs and returns how many. One that is longer than
// its buffer has size 0.
func (r *ring) take(bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for n < len(bufs) && r.n > 0 {
		item := r.items[r.first]
		sizes[n], eps[n] = 0, item.from
		if p := *item.packet; len(p) <= len(bufs[n]) {
			sizes[n] = copy(bufs[n], p)
		}
		n++
		r.popLocked()
	}
	return n
}

func (r *ring) popLocked() {
	item := &r.items[r.first]
	r.bytes -= len(*item.packet)
	if cap(*item.packet) <= ringBuffer {
		ringBuffers.Put(item.packet)
	}
	*item = ringItem{}
	r.first = (r.first + 1) % ringPackets
	r.n--
}

// clear drops all packets.
func (r *ring) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.n > 0 {
		r.popLocked()
	}
}

// receiveRing is the conn.ReceiveFunc of the ring.
func (r *receiver) receiveRing(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	for {
		select {
		case <-r.stop:
			return 0, net.ErrClosed
		default:
		}
		if n := r.bind.ring.take(bufs, sizes, eps); n > 0 {
			if r.sort(bufs[:n], sizes, eps) {
				return n, nil
			}
			continue
		}
		select {
		case <-r.stop:
		case <-r.bind.ring.wake:
		}
	}
}
