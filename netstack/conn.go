package netstack

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Conn is a TCP connection of the stack. Beside net.Conn it can be closed in one
// direction, and reset. All methods may be called from many goroutines; Reads are
// served one after the other, and so are Writes.
//
// A Conn can also be moved without anybody waiting in it: see [Conn.Notify],
// [Conn.ReadPieces] and [Conn.WriteFrom]. What blocked calls need is made by the
// first of them, so an idle connection that is only moved costs little memory.
type Conn struct {
	stack         *Stack
	endpoint      tcpip.Endpoint
	events        *waiter.Queue
	local, remote netip.AddrPort
	near          *nearness // nil: far, see window.go

	closed atomic.Bool           // by Close or Reset
	waits  atomic.Pointer[waits] // of blocked calls; nil until the first
	notice notice
	// broken is the error that ended the connection. gVisor tells it once; every
	// Read and Write after it must see it.
	broken atomic.Pointer[error]

	readMu  sync.Mutex // one Read at a time
	writeMu sync.Mutex // one Write at a time
	mu      sync.Mutex // guards closing, and the making of waits and notice
}

var _ net.Conn = (*Conn)(nil)

// newConn takes over an endpoint; local may be asked for with begin, once known.
func newConn(s *Stack, endpoint tcpip.Endpoint, events *waiter.Queue, remote netip.AddrPort) *Conn {
	return &Conn{stack: s, endpoint: endpoint, events: events, remote: remote}
}

// begin completes a connection that is established.
func (c *Conn) begin() {
	if f, err := c.endpoint.GetLocalAddress(); err == nil {
		c.local = fromFull(f)
	}
	c.setKeepAlive(net.KeepAliveConfig{Enable: true}) // fails only if it has ended already
	c.settle()
}

// Read returns io.EOF after the peer's FIN, and an error that is
// syscall.ECONNRESET after its RST (bytes received before it come first).
func (c *Conn) Read(b []byte) (int, error) {
	w := c.waiting()
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for {
		expired := w.readDeadline.wait()
		if err := c.state(expired); err != nil {
			return 0, c.fail("read", err)
		}
		if len(b) == 0 {
			return 0, nil
		}
		w.sink = b
		result, err := c.endpoint.Read(&w.sink, tcpip.ReadOptions{})
		w.sink = nil
		if err == nil {
			c.endpoint.ModerateRecvBuf(result.Count)
			return result.Count, nil
		}
		if err := c.readError(err); err != nil {
			return 0, err
		}
		select {
		case <-w.readable:
		case <-expired:
		case <-w.done:
		}
	}
}

// readError is what a read sees: io.EOF, an error, or nil if it has to wait.
func (c *Conn) readError(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrWouldBlock:
		return nil
	case *tcpip.ErrClosedForReceive:
		if err := c.ended(); err != nil {
			return c.fail("read", err)
		}
		if c.closed.Load() || c.stack.closed.Load() {
			return c.fail("read", net.ErrClosed)
		}
		return io.EOF
	}
	return c.fail("read", c.breakWith(err))
}

// Write returns when all of b is in the connection's buffer. After the peer's
// FIN, its RST gives EPIPE, as on the sockets of Linux.
func (c *Conn) Write(b []byte) (int, error) {
	w := c.waiting()
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	var source bytes.Reader
	n := 0
	for {
		expired := w.writeDeadline.wait()
		if err := c.state(expired); err != nil {
			return n, c.fail("write", err)
		}
		if n == len(b) {
			return n, nil
		}
		source.Reset(b[n:])
		written, err := c.endpoint.Write(&source, tcpip.WriteOptions{})
		n += int(written)
		if err == nil {
			if n == len(b) {
				return n, nil
			}
			if written > 0 {
				continue
			}
		} else if err := c.writeError(err); err != nil {
			return n, err
		}
		select {
		case <-w.writable:
		case <-expired:
		case <-w.done:
		}
	}
}

// writeError is what a write sees, nil if it has to wait.
func (c *Conn) writeError(err tcpip.Error) error {
	switch err.(type) {
	case *tcpip.ErrWouldBlock:
		return nil
	case *tcpip.ErrClosedForSend:
		if err := c.ended(); err != nil {
			return c.fail("write", err)
		}
		return c.fail("write", syscall.EPIPE)
	}
	return c.fail("write", c.breakWith(err))
}

// state is why nothing can be done now, or nil.
func (c *Conn) state(expired <-chan struct{}) error {
	if c.closed.Load() {
		return net.ErrClosed
	}
	select {
	case <-expired:
		return os.ErrDeadlineExceeded
	default:
	}
	return nil
}

// ended is the error that the connection ended with, nil after a proper end.
func (c *Conn) ended() error {
	if err := c.broken.Load(); err != nil {
		return *err
	}
	return nil
}

// breakWith remembers what ended the connection, and returns what did so first.
func (c *Conn) breakWith(err tcpip.Error) error {
	broken := errno(err)
	c.broken.CompareAndSwap(nil, &broken)
	return *c.broken.Load()
}

// fail makes the error that a caller sees.
func (c *Conn) fail(op string, err error) error {
	if c.closed.Load() || c.stack.closed.Load() {
		err = net.ErrClosed
	}
	return opError(op, "tcp", c.LocalAddr(), c.RemoteAddr(), err)
}

// Close ends the connection: what was written is still delivered, followed by
// a FIN, without anybody waiting for it. Bytes received but not read make it a
// reset (RFC 2525 section 2.17). Blocked calls return net.ErrClosed.
func (c *Conn) Close() error {
	if !c.shut(c.endpoint.Close) {
		return c.fail("close", net.ErrClosed)
	}
	return nil
}

// shut ends the endpoint by how and wakes who waits; only the first call does.
func (c *Conn) shut(how func()) bool {
	c.mu.Lock()
	first := c.closed.CompareAndSwap(false, true)
	c.mu.Unlock()
	if !first {
		return false
	}
	c.Notify(nil)
	if w := c.waits.Load(); w != nil {
		close(w.done)
	}
	how()
	if w := c.waits.Load(); w != nil {
		w.end(c.events)
	}
	return true
}

// CloseWrite sends a FIN after what was written; reading goes on.
func (c *Conn) CloseWrite() error {
	return c.shutdown(tcpip.ShutdownWrite)
}

// CloseRead makes this side's Reads return io.EOF once what has arrived is
// read; writing goes on. The peer is told nothing until it sends more.
func (c *Conn) CloseRead() error { return c.shutdown(tcpip.ShutdownRead) }

func (c *Conn) shutdown(flags tcpip.ShutdownFlags) error {
	if c.closed.Load() {
		return c.fail("shutdown", net.ErrClosed)
	}
	if err := c.endpoint.Shutdown(flags); err != nil {
		return c.fail("shutdown", errno(err))
	}
	return nil
}

// LocalAddr is the connection's own *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return net.TCPAddrFromAddrPort(c.local) }

// RemoteAddr is the peer's *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }

// RemoteAddrPort is RemoteAddr in its newer form.
func (c *Conn) RemoteAddrPort() netip.AddrPort { return c.remote }

// SetDeadline sets both deadlines; see net.Conn.
func (c *Conn) SetDeadline(t time.Time) error { return c.setDeadlines(t, true, true) }

// SetReadDeadline is as in net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, true, false) }

// SetWriteDeadline is as in net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, false, true) }

func (c *Conn) setDeadlines(t time.Time, read, write bool) error {
	if c.closed.Load() {
		return c.fail("set deadline", net.ErrClosed)
	}
	w := c.waiting()
	if read {
		w.readDeadline.set(t)
	}
	if write {
		w.writeDeadline.set(t)
	}
	return nil
}
