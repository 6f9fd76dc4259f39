package netstack

import (
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// backlog is how many connections may wait to be accepted, handshakes in
// progress included. Beyond it gVisor answers with SYN cookies (RFC 4987
// section 3.6), and further connections are let in as there is room.
const backlog = 1024

// ListenTCP listens on a mesh address, or on all of them: 0.0.0.0 for IPv4,
// [::] or the zero address for both families. Port 0 chooses a free port. The
// connections are *Conn; they outlive the listener. An address that the stack
// does not have gives EADDRNOTAVAIL, a taken port EADDRINUSE. A listener that
// nobody has connected to costs a few hundred bytes (ports.go).
func (s *Stack) ListenTCP(at netip.AddrPort) (net.Listener, error) {
	at = bindAddress(at)
	l, err := s.listenTCP(at)
	if err != nil {
		return nil, opError("listen", "tcp", nil, net.TCPAddrFromAddrPort(at), err)
	}
	return l, nil
}

func (s *Stack) listenTCP(at netip.AddrPort) (*listener, error) {
	if err := s.checkOpen(); err != nil {
		return nil, err
	}
	if full := bindFull(at); full.Addr.Len() > 0 && s.gvisor.CheckLocalAddress(full.NIC, protocolOf(at.Addr()), full.Addr) == 0 {
		return nil, syscall.EADDRNOTAVAIL
	}
	l := &listener{stack: s, at: at}
	if err := s.enter(l); err != nil {
		return nil, err
	}
	return l, nil
}

// bindAddress gives the unspecified address one form.
func bindAddress(at netip.AddrPort) netip.AddrPort {
	addr := at.Addr().Unmap()
	if !addr.IsValid() {
		addr = netip.IPv6Unspecified()
	}
	return netip.AddrPortFrom(addr, at.Port())
}

func bindFull(at netip.AddrPort) tcpip.FullAddress {
	if at.Addr().IsUnspecified() {
		return tcpip.FullAddress{Port: at.Port()}
	}
	full := tcpip.FullAddress{Addr: toAddress(at.Addr()), Port: at.Port()}
	if header.IsV6LinkLocalUnicastAddress(full.Addr) {
		full.NIC = nicID
	}
	return full
}

// listener is the net.Listener of ListenTCP.
type listener struct {
	stack  *Stack
	at     netip.AddrPort
	next   *listener // at the same port, see listeners
	held   bool      // its port is reserved
	closed atomic.Bool
	events waiter.Queue

	mu       sync.Mutex     // guards the fields below
	endpoint tcpip.Endpoint // nil until somebody has connected
	waits    *acceptWaits   // of blocked calls; nil until the first
	notice   *notice
}

// acceptWaits is what blocked Accepts need.
type acceptWaits struct {
	done       chan struct{} // closed by Close
	entry      waiter.Entry
	acceptable chan struct{}
}

const acceptableEvents = waiter.ReadableEvents | trouble

// open returns gVisor's listener, made by the first call; nil if there is none any more.
func (l *listener) open() tcpip.Endpoint {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.endpoint != nil || l.closed.Load() {
		return l.endpoint
	}
	endpoint, err := l.stack.gvisor.NewEndpoint(tcp.ProtocolNumber, protocolOf(l.at.Addr()), &l.events)
	if err != nil {
		return nil
	}
	// Connections that outlive a listener do not keep its port from the next one.
	endpoint.SocketOptions().SetReuseAddress(true)
	if err = endpoint.Bind(bindFull(l.at)); err == nil {
		err = endpoint.Listen(backlog)
	}
	if err != nil { // the address went just now
		endpoint.Close()
		return nil
	}
	l.endpoint = endpoint
	return endpoint
}

// waiting returns what a call needs to block.
func (l *listener) waiting() *acceptWaits {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waits == nil {
		w := &acceptWaits{done: make(chan struct{})}
		w.entry, w.acceptable = waiter.NewChannelEntry(acceptableEvents)
		l.events.EventRegister(&w.entry)
		if l.closed.Load() {
			close(w.done)
		}
		l.waits = w
	}
	return l.waits
}

// Accept waits for the next connection; net.ErrClosed after Close.
func (l *listener) Accept() (net.Conn, error) {
	w := l.waiting()
	for {
		c, err := l.TryAccept()
		if err != nil {
			return nil, err
		}
		if c != nil {
			select { // there may be more, and others who wait
			case w.acceptable <- struct{}{}:
			default:
			}
			return c, nil
		}
		select {
		case <-w.acceptable:
		case <-w.done:
		}
	}
}

// TryAccept is Accept without waiting: nil and nil mean that there is nothing now.
func (l *listener) TryAccept() (net.Conn, error) {
	l.mu.Lock()
	listening := l.endpoint
	l.mu.Unlock()
	if l.closed.Load() {
		return nil, l.fail(net.ErrClosed)
	}
	if listening == nil {
		return nil, nil
	}
	var remote tcpip.FullAddress
	endpoint, events, err := listening.Accept(&remote)
	switch err.(type) {
	case nil:
		c := newConn(l.stack, endpoint, events, fromFull(remote))
		c.begin()
		return c, nil
	case *tcpip.ErrWouldBlock:
		return nil, nil
	case *tcpip.ErrInvalidEndpointState: // closed by the stack
		return nil, l.fail(net.ErrClosed)
	}
	return nil, l.fail(errno(err))
}

// Notify makes ready be called whenever TryAccept may have something. It is
// called with locks held: it may neither block nor call methods of the stack.
func (l *listener) Notify(ready func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.notice != nil {
		l.events.EventUnregister(&l.notice.entry)
	}
	l.notice = &notice{ready: func(bool, bool) { ready() }}
	l.notice.entry.Init(l.notice, acceptableEvents)
	l.events.EventRegister(&l.notice.entry)
}

// Close stops listening. Connections that nobody has accepted are reset. Closing
// again is no error.
func (l *listener) Close() error {
	l.mu.Lock()
	first := !l.closed.Swap(true)
	if first && l.waits != nil {
		close(l.waits.done)
	}
	endpoint := l.endpoint
	l.mu.Unlock()
	if !first {
		return nil
	}
	if endpoint != nil {
		endpoint.Close()
	}
	l.stack.leave(l)
	l.events.Notify(trouble) // gVisor says nothing of a listener it does not have
	return nil
}

// Addr is the address given to ListenTCP with the port in use.
func (l *listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.at) }

func (l *listener) fail(err error) error { return opError("accept", "tcp", nil, l.Addr(), err) }
