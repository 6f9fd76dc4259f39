package netstack

import (
	"net"
	"net/netip"
	"sync"

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
// does not have gives EADDRNOTAVAIL, a taken port EADDRINUSE.
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
	l := &listener{stack: s, done: make(chan struct{})}
	endpoint, err := s.gvisor.NewEndpoint(tcp.ProtocolNumber, protocolOf(at.Addr()), &l.events)
	if err != nil {
		return nil, errno(err)
	}
	l.endpoint = endpoint
	// Connections that outlive a listener do not keep its port from the next one.
	endpoint.SocketOptions().SetReuseAddress(true)
	if err = endpoint.Bind(bindFull(at)); err == nil {
		err = endpoint.Listen(backlog)
	}
	if err != nil {
		l.Close()
		return nil, errno(err)
	}
	if bound, err := endpoint.GetLocalAddress(); err == nil {
		at = netip.AddrPortFrom(at.Addr(), bound.Port)
	}
	l.addr = net.TCPAddrFromAddrPort(at)
	if err := s.checkOpen(); err != nil {
		l.Close()
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
	stack    *Stack
	endpoint tcpip.Endpoint
	events   waiter.Queue
	addr     *net.TCPAddr

	done      chan struct{}
	closeOnce sync.Once

	waitOnce   sync.Once // the first blocked Accept makes the fields below
	entry      waiter.Entry
	acceptable chan struct{}

	noticeMu sync.Mutex // guards notice
	notice   notice
}

const acceptableEvents = waiter.ReadableEvents | trouble

// Accept waits for the next connection; net.ErrClosed after Close.
func (l *listener) Accept() (net.Conn, error) {
	l.waitOnce.Do(func() {
		l.entry, l.acceptable = waiter.NewChannelEntry(acceptableEvents)
		l.events.EventRegister(&l.entry)
	})
	for {
		c, err := l.TryAccept()
		if err != nil {
			return nil, err
		}
		if c != nil {
			select { // there may be more, and others who wait
			case l.acceptable <- struct{}{}:
			default:
			}
			return c, nil
		}
		select {
		case <-l.acceptable:
		case <-l.done:
		}
	}
}

// TryAccept is Accept without waiting: nil and nil mean that there is nothing now.
func (l *listener) TryAccept() (net.Conn, error) {
	select {
	case <-l.done:
		return nil, l.fail(net.ErrClosed)
	default:
	}
	var remote tcpip.FullAddress
	endpoint, events, err := l.endpoint.Accept(&remote)
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
	l.noticeMu.Lock()
	defer l.noticeMu.Unlock()
	if l.notice.ready != nil {
		l.events.EventUnregister(&l.notice.entry)
	}
	l.notice.ready = func(bool, bool) { ready() }
	l.notice.entry.Init(&l.notice, acceptableEvents)
	l.events.EventRegister(&l.notice.entry)
}

// Close stops listening. Connections that nobody has accepted are reset. Closing
// again is no error.
func (l *listener) Close() error {
	l.closeOnce.Do(func() {
		close(l.done)
		l.endpoint.Close()
	})
	return nil
}

// Addr is the address given to ListenTCP with the port in use.
func (l *listener) Addr() net.Addr { return l.addr }

func (l *listener) fail(err error) error { return opError("accept", "tcp", nil, l.addr, err) }
