package netstack

import (
	"sync/atomic"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
)

// How the receive window of a connection behaves. Beyond bandwidth times delay
// what a window holds stands in a queue, mostly in the receiver's UDP socket,
// where everything else of the same peer waits behind it: 4 MB are 15 ms at
// 270 MB/s. A bulk transfer that is alone is faster for it, by larger batches;
// one that is not must give way.
const (
	// nearby is the round trip, as the handshake measured it, up to which
	// bandwidth times delay is less than either window. Elsewhere the window grows with what
	// the path carries, as gVisor does it.
	nearby = 3 * time.Millisecond
	// aloneBuffer and sharedBuffer are receive buffers in bytes of a connection to
	// a nearby peer; half of each is the window.
	aloneBuffer  = tcpBufferMax
	sharedBuffer = 384 << 10
	// sharedFor is how long a connection counts after it was read from.
	sharedFor = 250 * time.Millisecond
	// windowStep is the least time between two changes.
	windowStep = 20 * time.Millisecond
)

// window is the receive side of one connection. readMu guards it.
type window struct {
	near    bool
	moved   int           // bytes read; counted until it is a bulk transfer
	buffer  int           // set last; 0: as gVisor made it
	changed time.Duration // when
}

// readers tells whether connections of a stack are read from in turn.
type readers struct {
	last    atomic.Pointer[Conn]
	changed atomic.Int64 // nanoseconds since the stack's start
}

// note says that c is read from, and reports whether others were a moment ago.
func (r *readers) note(c *Conn, now time.Duration) bool {
	if r.last.Load() != c {
		if r.last.Swap(c) != nil {
			r.changed.Store(int64(now))
		}
	}
	changed := time.Duration(r.changed.Load())
	return changed > 0 && now-changed < sharedFor
}

// forget lets go of a connection that has ended.
func (r *readers) forget(c *Conn) { r.last.CompareAndSwap(c, nil) }

// settle finds out how far the peer of a new connection is.
func (c *Conn) settle() {
	var info tcpip.TCPInfoOption
	err := c.endpoint.GetSockOpt(&info)
	c.window.near = err == nil && info.RTT > 0 && info.RTT <= nearby
}

// moderate lets the receive window follow what was read, n bytes. readMu is held.
func (c *Conn) moderate(n int) {
	now := time.Since(c.stack.began)
	shared := c.stack.readers.note(c, now)
	w := &c.window
	if !w.near {
		c.endpoint.ModerateRecvBuf(n)
		return
	}
	if w.moved < sharedBuffer {
		w.moved += n
		return
	}
	want := aloneBuffer
	if shared {
		want = sharedBuffer
	}
	if want != w.buffer && (w.buffer == 0 || now-w.changed >= windowStep) {
		w.buffer, w.changed = want, now
		c.endpoint.SocketOptions().SetReceiveBufferSize(int64(want), true)
	}
}
