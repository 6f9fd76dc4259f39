package netstack

import (
	"os"
	"sync"

	"golang.zx2c4.com/wireguard/tun"
)

const (
	// readBudget is how much sealed data one Read leads to at most. wireguard-go
	// sends a batch as one UDP segmentation (GSO) write of up to 65507 bytes,
	// but most links take at most 65536 bytes *with* their headers; more is cut
	// in software and arrives packet by packet.
	readBudget = 64_900
	// sealOverhead is what WireGuard adds to each packet: 16 bytes of header and
	// 16 of tag. It pads the content to a multiple of sealPadding before that.
	sealOverhead = 32
	sealPadding  = 16
	// smallPacket is a sealed packet that does not count in the budget.
	smallPacket = 256
)

// sealed is the size of a packet after WireGuard has sealed it.
func sealed(size int) int {
	return (size+sealPadding-1)/sealPadding*sealPadding + sealOverhead
}

// device is wireguard-go's side: the tun.Device it reads and writes.
type device struct {
	link   *link
	events chan tun.Event

	readMu sync.Mutex // guards parts: one Read at a time
	parts  [BatchSize]part

	joiner joiner // its own lock

	closeOnce sync.Once
}

var _ tun.Device = (*device)(nil)

func newDevice(l *link) *device {
	d := &device{link: l, events: make(chan tun.Event, 1)}
	d.events <- tun.EventUp
	return d
}

// Read waits for a packet and then takes what else is queued, up to a batch,
// without waiting for more. TCP segments are cut to the MTU of their destination
// straight into bufs; what does not fit into one batch is in the next. A packet
// larger than its buffer is dropped. It returns os.ErrClosed once the device is closed.
func (d *device) Read(bufs [][]byte, sizes []int, offset int) (int, error) {
	if len(bufs) == 0 {
		return 0, nil
	}
	d.readMu.Lock()
	defer d.readMu.Unlock()
	for {
		taken := d.link.queue.take(d.parts[:], min(len(bufs), BatchSize), readBudget, &d.link.mtus)
		if taken == 0 {
			return 0, os.ErrClosed
		}
		n := 0
		for i := range d.parts[:taken] {
			n += d.put(&d.parts[i], bufs[n:], sizes[n:], offset)
			d.parts[i].pkt.DecRef()
			d.parts[i] = part{}
		}
		if n > 0 {
			return n, nil
		}
	}
}

// put writes a part of a packet to the first buffers, for which there are
// enough, and returns how many it took.
func (d *device) put(p *part, bufs [][]byte, sizes []int, offset int) int {
	d.link.prepare(p)
	w := p.start()
	n, bytes := 0, 0
	for i := range p.n {
		from := p.from + i*p.shape.piece
		size := p.shape.size(from)
		if size > len(bufs[n])-offset {
			d.link.counters.txOversize.Add(1)
			w = walker{} // its pieces are of one size: the others do not fit either, or are the rest
			break
		}
		p.put(&w, bufs[n][offset:offset+size], from)
		sizes[n] = size
		bytes += size
		n++
	}
	d.link.counters.txPackets.Add(uint64(n))
	d.link.counters.txBytes.Add(uint64(bytes))
	return n
}

// Write gives a batch of packets to the stack, which copies them; runs of
// segments of one TCP connection are joined before. It never waits for the
// stack's own output. Malformed packets and packets to other addresses are
// dropped and counted; they are no error.
func (d *device) Write(bufs [][]byte, offset int) (int, error) {
	select {
	case <-d.link.queue.done:
		return 0, os.ErrClosed
	default:
	}
	d.joiner.deliver(d.link, bufs, offset)
	return len(bufs), nil
}

// Close ends all Reads and Writes. It is idempotent.
func (d *device) Close() error {
	d.closeOnce.Do(func() {
		d.link.close()
		close(d.events)
	})
	return nil
}

// MTU is the stack's own, in bytes: WireGuard's padding of full packets stays
// within it.
func (d *device) MTU() (int, error) { return d.link.mtus.own, nil }

// Name for log lines.
func (d *device) Name() (string, error) { return "nexd", nil }

// Events holds one EventUp from the start and is closed with the device.
func (d *device) Events() <-chan tun.Event { return d.events }

// BatchSize is constant.
func (d *device) BatchSize() int { return BatchSize }

// File is nil: there is no descriptor behind this device.
func (d *device) File() *os.File { return nil }
