package relay

import (
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// othersQueue is how many datagrams wait for their reader.
const othersQueue = 256

// Others is what comes to a relay's sockets and is no frame, as a
// [net.PacketConn]: a STUN server can read it as if the port were its own. Its
// method Take is for [ServerConfig].Other. Answers leave by the socket the
// datagram last read came to, so there must be one reader, who answers at once.
type Others struct {
	queue   chan otherPacket
	dropped atomic.Uint64
	closed  chan struct{}
	once    sync.Once

	mu       sync.Mutex // guards the fields below
	socket   *Socket
	deadline *time.Timer
	expired  chan struct{}
}

type otherPacket struct {
	socket *Socket
	b      []byte
	from   netip.AddrPort
}

// maxOther is the longest datagram that is handed on: STUN's fit any path.
const maxOther = 1500

// NewOthers returns an empty queue of 256 datagrams; more are dropped.
func NewOthers() *Others {
	return &Others{queue: make(chan otherPacket, othersQueue), closed: make(chan struct{}), expired: make(chan struct{})}
}

// Take is for [ServerConfig].Other.
func (o *Others) Take(socket *Socket, packet []byte, from netip.AddrPort) {
	if len(packet) > maxOther || len(o.queue) == cap(o.queue) {
		o.dropped.Add(1)
		return
	}
	select {
	case o.queue <- otherPacket{socket, append([]byte(nil), packet...), from}:
	default:
		o.dropped.Add(1)
	}
}

// Dropped returns how many datagrams were too long or found the queue full.
func (o *Others) Dropped() uint64 { return o.dropped.Load() }

// ReadFrom returns the next datagram, [net.ErrClosed] after Close, and
// [os.ErrDeadlineExceeded] after the deadline.
func (o *Others) ReadFrom(b []byte) (int, net.Addr, error) {
	o.mu.Lock()
	expired := o.expired
	o.mu.Unlock()
	select {
	case <-o.closed:
		return 0, nil, net.ErrClosed
	case <-expired:
		return 0, nil, os.ErrDeadlineExceeded
	case p := <-o.queue:
		o.mu.Lock()
		o.socket = p.socket
		o.mu.Unlock()
		return copy(b, p.b), net.UDPAddrFromAddrPort(p.from), nil
	}
}

// WriteTo answers by the socket of the datagram last read.
func (o *Others) WriteTo(b []byte, to net.Addr) (int, error) {
	o.mu.Lock()
	socket := o.socket
	o.mu.Unlock()
	u, ok := to.(*net.UDPAddr)
	if socket == nil || !ok {
		return 0, net.ErrClosed
	}
	return socket.WriteTo(b, u.AddrPort())
}

// Close ends reads; the relay's sockets stay open.
func (o *Others) Close() error {
	o.once.Do(func() { close(o.closed) })
	return nil
}

// LocalAddr is unspecified until something came.
func (o *Others) LocalAddr() net.Addr {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.socket == nil {
		return &net.UDPAddr{}
	}
	return o.socket.LocalAddr()
}

// SetReadDeadline ends reads that wait at t; the zero time is none.
func (o *Others) SetReadDeadline(t time.Time) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.deadline != nil {
		o.deadline.Stop()
	}
	expired := make(chan struct{})
	o.expired, o.deadline = expired, nil
	if !t.IsZero() {
		o.deadline = time.AfterFunc(time.Until(t), func() { close(expired) })
	}
	return nil
}

// SetDeadline is SetReadDeadline: writes do not wait.
func (o *Others) SetDeadline(t time.Time) error { return o.SetReadDeadline(t) }

// SetWriteDeadline does nothing: writes do not wait.
func (o *Others) SetWriteDeadline(time.Time) error { return nil }
