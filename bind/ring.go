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
	ringRun     = 32   // packets that go in or out at once
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

// push copies packets into the ring and returns how many had to go.
func (r *ring) push(from conn.Endpoint, packets ...[]byte) (dropped int) {
	var items [ringRun]ringItem
	for len(packets) > 0 {
		n := min(len(packets), ringRun)
		for i, p := range packets[:n] {
			buf := ringBuffers.Get().(*[]byte)
			*buf = append((*buf)[:0], p...)
			items[i] = ringItem{buf, from}
		}
		dropped += r.put(items[:n])
		packets = packets[n:]
	}
	return dropped
}

// put is push of what was copied.
func (r *ring) put(items []ringItem) (dropped int) {
	r.mu.Lock()
	idle := r.n == 0
	for _, item := range items {
		size := len(*item.packet)
		for r.n > 0 && (r.n == ringPackets || r.bytes+size > ringBytes) {
			item := r.popLocked()
			item.free()
			dropped++
		}
		r.items[(r.first+r.n)%ringPackets] = item
		r.n++
		r.bytes += size
	}
	r.mu.Unlock()
	if idle { // else it was told, and takes until there is nothing
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
	return dropped
}

// take moves packets into bufs and returns how many. One that is longer than
// its buffer has size 0.
func (r *ring) take(bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int) {
	var items [ringRun]ringItem
	for n < len(bufs) {
		k := r.get(items[:min(ringRun, len(bufs)-n)])
		if k == 0 {
			break
		}
		for _, item := range items[:k] {
			sizes[n], eps[n] = 0, item.from
			if p := *item.packet; len(p) <= len(bufs[n]) {
				sizes[n] = copy(bufs[n], p)
			}
			item.free()
			n++
		}
	}
	return n
}

// get takes packets out, as many as items has room for; the caller frees them.
func (r *ring) get(items []ringItem) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for ; n < len(items) && r.n > 0; n++ {
		items[n] = r.popLocked()
	}
	return n
}

func (r *ring) popLocked() ringItem {
	item := r.items[r.first]
	r.bytes -= len(*item.packet)
	r.items[r.first] = ringItem{}
	r.first = (r.first + 1) % ringPackets
	r.n--
	return item
}

// free gives the buffer back.
func (i ringItem) free() {
	if cap(*i.packet) <= ringBuffer {
		ringBuffers.Put(i.packet)
	}
}

// clear drops all packets.
func (r *ring) clear() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.n > 0 {
		item := r.popLocked()
		item.free()
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
