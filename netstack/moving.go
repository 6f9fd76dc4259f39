package netstack

import (
	"errors"
	"net"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// maxPieces bounds the pieces ReadPieces offers at once.
const maxPieces = 128

// notice calls somebody when something has happened to a connection.
type notice struct {
	entry waiter.Entry
	ready func(readable, writable bool)
}

// NotifyEvent is called by gVisor, with locks of its own held.
func (n *notice) NotifyEvent(mask waiter.EventMask) {
	n.ready(mask&(waiter.ReadableEvents|trouble) != 0, mask&(waiter.WritableEvents|trouble) != 0)
}

// Notify makes ready be called whenever ReadPieces or WriteFrom may do more than
// before; nil ends that, and so do Close and Reset. After these ready is not
// called any more. It is called with locks held: it may neither block nor call
// methods of any connection. If there is something to read already, it is called
// before Notify returns.
func (c *Conn) Notify(ready func(readable, writable bool)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.notice.ready != nil {
		c.events.EventUnregister(&c.notice.entry)
		c.notice.ready = nil
	}
	if ready == nil || c.closed.Load() {
		return
	}
	c.notice.ready = ready
	c.notice.entry.Init(&c.notice, waiter.ReadableEvents|waiter.WritableEvents|trouble)
	c.events.EventRegister(&c.notice.entry)
	if c.endpoint.Readiness(waiter.ReadableEvents) != 0 {
		ready(true, false)
	}
}

// TryRead is Read without waiting: 0 and no error mean that there is nothing now.
func (c *Conn) TryRead(b []byte) (n int, err error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.closed.Load() {
		return 0, c.fail("read", net.ErrClosed)
	}
	p := piecesPool.Get().(*pieces)
	defer p.free()
	p.sink = b
	result, terr := c.endpoint.Read(&p.sink, tcpip.ReadOptions{})
	if terr != nil {
		return 0, c.readError(terr)
	}
	c.endpoint.ModerateRecvBuf(result.Count)
	return result.Count, nil
}

// ReadPieces reads without waiting and without copying: it calls take once with
// up to most bytes of what has arrived, in pieces, and take returns how many of
// the bytes, from the front, it has dealt with. n is that number; it is 0 also
// when there is nothing to read now. Errors are those of Read, io.EOF included.
//
// take runs with the connection locked: it must not block, call methods of the
// connection, or keep the pieces.
func (c *Conn) ReadPieces(most int, take func(pieces [][]byte) int) (n int, err error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	if c.closed.Load() {
		return 0, c.fail("read", net.ErrClosed)
	}
	there, terr := c.endpoint.GetSockOptInt(tcpip.ReceiveQueueSizeOption)
	if terr != nil {
		return 0, c.readError(terr)
	}
	p := piecesPool.Get().(*pieces)
	defer p.free()
	p.limit, p.take = min(there, most), take

	// Mostly everything is in one piece: then one pass does. Only who reads takes
	// something out of the queue, so there is no less in it than a moment ago.
	_, terr = c.endpoint.Read((*onePiece)(p), tcpip.ReadOptions{})
	if _, refused := terr.(*tcpip.ErrBadBuffer); refused && !p.taken && p.limit > 0 {
		_, terr = c.endpoint.Read((*allPieces)(p), tcpip.ReadOptions{Peek: true})
		if p.left = p.n; p.n > 0 {
			_, terr = c.endpoint.Read((*skip)(p), tcpip.ReadOptions{})
		}
	}
	if p.n > 0 {
		c.endpoint.ModerateRecvBuf(p.n)
		return p.n, nil
	}
	if _, refused := terr.(*tcpip.ErrBadBuffer); terr == nil || refused {
		return 0, nil
	}
	return 0, c.readError(terr)
}

// errEnough ends a pass of gVisor over what has arrived; it sees no more of it.
var errEnough = errors.New("enough")

// WriteFrom writes without waiting and without a buffer between: it calls fill,
// perhaps more than once, for up to most bytes, as many as there is room for,
// and returns how many that were. 0 without an error means that there is no room
// now. fill must fill all of b: who calls must know that most bytes are there.
// When it cannot, or the connection ended meanwhile, the bytes of this call are
// lost and the error tells why. Other errors are those of Write.
func (c *Conn) WriteFrom(most int, fill func(b []byte) error) (n int, err error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if c.closed.Load() {
		return 0, c.fail("write", net.ErrClosed)
	}
	f := fillerPool.Get().(*filler)
	defer f.free()
	f.left, f.fill = most, fill
	written, terr := c.endpoint.Write(f, tcpip.WriteOptions{})
	switch {
	case f.err != nil:
		return 0, c.fail("write", f.err)
	case terr == nil:
		return int(written), nil
	}
	return 0, c.writeError(terr)
}

// Broken tells, after Read or ReadPieces has returned io.EOF, whether the
// connection broke all the same: ECONNRESET after the peer's RST, ETIMEDOUT
// when keepalive found it gone. over: there will be no such news any more.
func (c *Conn) Broken() (over bool, err error) {
	if c.closed.Load() {
		return true, nil
	}
	return c.afterEnd()
}
