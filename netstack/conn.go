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
type Conn struct {
	stack         *Stack
	endpoint      tcpip.Endpoint
	events        *waiter.Queue
	local, remote *net.TCPAddr

	done      chan struct{} // closed by Close and Reset
	closeOnce sync.Once
	// broken is the error that ended the connection. gVisor tells it once; every
	// Read and Write after it must see it.
	broken atomic.Pointer[error]

	readable     <-chan struct{}
	readEntry    waiter.Entry
	readDeadline *deadline
	readMu       sync.Mutex // guards sink: one Read at a time
	sink         tcpip.SliceWriter

	writable      <-chan struct{}
	writeEntry    waiter.Entry
	writeDeadline *deadline
	writeMu       sync.Mutex // guards source: one Write at a time
	source        bytes.Reader
}

var _ net.Conn = (*Conn)(nil)

func newConn(s *Stack, endpoint tcpip.Endpoint, events *waiter.Queue, remote netip.AddrPort) *Conn {
	c := &Conn{
		stack: s, endpoint: endpoint, events: events,
		local: new(net.TCPAddr), remote: net.TCPAddrFromAddrPort(remote),
		done:         make(chan struct{}),
		readDeadline: newDeadline(), writeDeadline: newDeadline(),
	}
	const trouble = waiter.EventErr | waiter.EventHUp
	c.readEntry, c.readable = channelEntry(waiter.ReadableEvents | trouble)
	c.writeEntry, c.writable = channelEntry(waiter.WritableEvents | trouble)
	events.EventRegister(&c.readEntry)
	events.EventRegister(&c.writeEntry)
	return c
}

// begin completes a connection that is established.
func (c *Conn) begin() {
	if f, err := c.endpoint.GetLocalAddress(); err == nil {
		c.local = net.TCPAddrFromAddrPort(fromFull(f))
	}
	c.setKeepAlive(net.KeepAliveConfig{Enable: true}) // fails only if it has ended already
}

func channelEntry(mask waiter.EventMask) (waiter.Entry, <-chan struct{}) {
	entry, c := waiter.NewChannelEntry(mask)
	return entry, c
}

// Read returns io.EOF after the peer's FIN, and an error that is
// syscall.ECONNRESET after its RST (bytes received before it come first).
func (c *Conn) Read(b []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for {
		expired := c.readDeadline.wait()
		if err := c.state(expired); err != nil {
			return 0, c.fail("read", err)
		}
		if len(b) == 0 {
			return 0, nil
		}
		c.sink = b
		result, err := c.endpoint.Read(&c.sink, tcpip.ReadOptions{})
		c.sink = nil
		switch err.(type) {
		case nil:
			c.endpoint.ModerateRecvBuf(result.Count)
			return result.Count, nil
		case *tcpip.ErrWouldBlock:
		case *tcpip.ErrClosedForReceive:
			if err := c.ended(); err != nil {
				return 0, c.fail("read", err)
			}
			return 0, io.EOF
		default:
			return 0, c.fail("read", c.breakWith(err))
		}
		select {
		case <-c.readable:
		case <-expired:
		case <-c.done:
		}
	}
}

// Write returns when all of b is in the connection's buffer. After the peer's
// FIN, its RST gives EPIPE, as on the sockets of Linux.
func (c *Conn) Write(b []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	defer c.source.Reset(nil)
	n := 0
	for {
		expired := c.writeDeadline.wait()
		if err := c.state(expired); err != nil {
			return n, c.fail("write", err)
		}
		if n == len(b) {
			return n, nil
		}
		c.source.Reset(b[n:])
		written, err := c.endpoint.Write(&c.source, tcpip.WriteOptions{})
		n += int(written)
		switch err.(type) {
		case nil:
			if n == len(b) {
				return n, nil
			}
			if written > 0 {
				continue
			}
		case *tcpip.ErrWouldBlock:
		case *tcpip.ErrClosedForSend:
			if err := c.ended(); err != nil {
				return n, c.fail("write", err)
			}
			return n, c.fail("write", syscall.EPIPE)
		default:
			return n, c.fail("write", c.breakWith(err))
		}
		select {
		case <-c.writable:
		case <-expired:
		case <-c.done:
		}
	}
}

// state is why nothing can be done now, or nil.
func (c *Conn) state(expired <-chan struct{}) error {
	select {
	case <-c.done:
		return net.ErrClosed
	default:
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
	select {
	case <-c.done:
		err = net.ErrClosed
	default:
		if c.stack.closed.Load() {
			err = net.ErrClosed
		}
	}
	return opError(op, "tcp", c.LocalAddr(), c.RemoteAddr(), err)
}

// Close ends the connection: what was written is still delivered, followed by
// a FIN, without anybody waiting for it. Bytes received but not read make it a
// reset (RFC 2525 section 2.17). Blocked calls return net.ErrClosed.
func (c *Conn) Close() error {
	closed := false
	c.closeOnce.Do(func() {
		closed = true
		close(c.done)
		c.endpoint.Close()
		c.release()
	})
	if !closed {
		return c.fail("close", net.ErrClosed)
	}
	return nil
}

func (c *Conn) release() {
	c.events.EventUnregister(&c.readEntry)
	c.events.EventUnregister(&c.writeEntry)
	c.readDeadline.set(time.Time{})
	c.writeDeadline.set(time.Time{})
}

// CloseWrite sends a FIN after what was written; reading goes on.
func (c *Conn) CloseWrite() error {
	return c.shutdown(tcpip.ShutdownWrite)
}

// CloseRead makes this side's Reads return io.EOF once what has arrived is
// read; writing goes on. The peer is told nothing until it sends more.
func (c *Conn) CloseRead() error { return c.shutdown(tcpip.ShutdownRead) }

func (c *Conn) shutdown(flags tcpip.ShutdownFlags) error {
	select {
	case <-c.done:
		return c.fail("shutdown", net.ErrClosed)
	default:
	}
	if err := c.endpoint.Shutdown(flags); err != nil {
		return c.fail("shutdown", errno(err))
	}
	return nil
}

// LocalAddr is the connection's own *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr is the peer's *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// RemoteAddrPort is RemoteAddr in its newer form.
func (c *Conn) RemoteAddrPort() netip.AddrPort { return c.remote.AddrPort() }

// SetDeadline sets both deadlines; see net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return c.setDeadlines(t, c.readDeadline, c.writeDeadline)
}

// SetReadDeadline is as in net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, c.readDeadline) }

// SetWriteDeadline is as in net.Conn.
func (c *Conn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, c.writeDeadline) }

func (c *Conn) setDeadlines(t time.Time, deadlines ...*deadline) error {
	select {
	case <-c.done:
		return c.fail("set deadline", net.ErrClosed)
	default:
	}
	for _, d := range deadlines {
		d.set(t)
	}
	return nil
}
