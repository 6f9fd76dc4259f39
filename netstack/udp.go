package netstack

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// Limits of a datagram socket.
const (
	// A datagram that arrives while either is reached is dropped and counted
	// (Stats.UDPFull).
	udpReceivePackets = 1024
	udpReceiveBytes   = 2 << 20
	// udpSendBytes may be on their way to WireGuard; more waits.
	udpSendBytes = 512 << 10

	// Largest payloads: an IP packet of 65535 bytes less its headers (in IPv6
	// the fixed header does not count).
	udpMax4 = 65535 - header.IPv4MinimumSize - header.UDPMinimumSize
	udpMax6 = 65535 - header.UDPMinimumSize
)

// PacketConn is a datagram socket of the stack: a net.PacketConn, and a net.Conn
// when DialUDP made it. Datagrams of 0 to 65507 bytes pass whole, in fragments
// where they exceed the MTU.
//
// When SetAddresses takes the socket's address away, every call fails with
// EADDRNOTAVAIL from then on, also after the address has come back: it may have
// been another's meanwhile. A socket on all addresses is not touched.
type PacketConn struct {
	stack    *Stack
	endpoint tcpip.Endpoint
	events   waiter.Queue
	local    netip.AddrPort
	remote   netip.AddrPort // of DialUDP

	done      chan struct{}
	closeOnce sync.Once
	gone      atomic.Bool // local is no address of the stack any more

	arrival      waiter.Entry
	inbox        *inbox
	readDeadline *deadline

	writeEntry    waiter.Entry
	writable      chan struct{}
	writeDeadline *deadline
}

var (
	_ net.Conn       = (*PacketConn)(nil)
	_ net.PacketConn = (*PacketConn)(nil)
)

// ListenUDP receives datagrams at a mesh address or at all of them; addresses
// and errors are as with ListenTCP. The result is a *PacketConn.
func (s *Stack) ListenUDP(at netip.AddrPort) (net.PacketConn, error) {
	at = bindAddress(at)
	c, err := s.newPacketConn(protocolOf(at.Addr()), func(e tcpip.Endpoint) tcpip.Error {
		return e.Bind(bindFull(at))
	})
	if err != nil {
		return nil, opError("listen", "udp", nil, net.UDPAddrFromAddrPort(at), err)
	}
	c.local = netip.AddrPortFrom(at.Addr(), c.local.Port())
	return c, nil
}

// DialUDP makes a socket that exchanges datagrams with one address. Reads and
// Writes fail with ECONNREFUSED, once each time, when the other side has said
// "port unreachable". The result is a *PacketConn.
func (s *Stack) DialUDP(to netip.AddrPort) (net.Conn, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	fail := func(err error) error { return opError("dial", "udp", nil, net.UDPAddrFromAddrPort(to), err) }
	if err := checkRemote(to); err != nil {
		return nil, fail(err)
	}
	c, err := s.newPacketConn(protocolOf(to.Addr()), func(e tcpip.Endpoint) tcpip.Error {
		return e.Connect(fullOf(to))
	})
	if err != nil {
		return nil, fail(err)
	}
	c.remote = to
	return c, nil
}

func (s *Stack) newPacketConn(protocol tcpip.NetworkProtocolNumber, open func(tcpip.Endpoint) tcpip.Error) (*PacketConn, error) {
	if err := s.checkOpen(); err != nil {
		return nil, err
	}
	c := &PacketConn{
		stack:        s,
		done:         make(chan struct{}),
		inbox:        newInbox(udpReceivePackets, udpReceiveBytes),
		readDeadline: newDeadline(), writeDeadline: newDeadline(),
	}
	endpoint, terr := s.gvisor.NewEndpoint(udp.ProtocolNumber, protocol, &c.events)
	if terr != nil {
		return nil, errno(terr)
	}
	c.endpoint = endpoint
	endpoint.SocketOptions().SetSendBufferSize(udpSendBytes, false)
	endpoint.SocketOptions().SetReceiveBufferSize(udpReceiveBytes, false)
	c.arrival = waiter.NewFunctionEntry(waiter.ReadableEvents|waiter.EventErr, func(waiter.EventMask) { c.collect() })
	c.events.EventRegister(&c.arrival)
	c.writeEntry, c.writable = waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	c.events.EventRegister(&c.writeEntry)
	if terr = open(endpoint); terr != nil {
		c.Close()
		return nil, errno(terr)
	}
	if f, err := endpoint.GetLocalAddress(); err == nil {
		c.local = fromFull(f)
	}
	if err := s.adopt(c); err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// WriteToAddrPort sends one datagram. It waits while too many of this socket
// are on their way to WireGuard. A datagram too large for IP gives EMSGSIZE.
func (c *PacketConn) WriteToAddrPort(b []byte, to netip.AddrPort) (int, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	if c.remote.IsValid() {
		return 0, c.fail("write", net.ErrWriteToConnected)
	}
	if checkRemote(to) != nil {
		return 0, c.fail("write", syscall.EINVAL)
	}
	return c.send(b, to)
}

// WriteTo is WriteToAddrPort as in net.PacketConn.
func (c *PacketConn) WriteTo(b []byte, addr net.Addr) (int, error) {
	to, ok := addr.(*net.UDPAddr)
	if !ok || to == nil {
		return 0, c.fail("write", syscall.EINVAL)
	}
	return c.WriteToAddrPort(b, to.AddrPort())
}

// Write sends one datagram to the address given to DialUDP.
func (c *PacketConn) Write(b []byte) (int, error) {
	if !c.remote.IsValid() {
		return 0, c.fail("write", syscall.EDESTADDRREQ)
	}
	return c.send(b, netip.AddrPort{})
}

// letter is what gVisor wants to have pointers to when a datagram is sent.
type letter struct {
	source bytes.Reader
	to     tcpip.FullAddress
}

var letters = sync.Pool{New: func() any { return new(letter) }}

// send sends b to an address, the zero one for that given to DialUDP.
func (c *PacketConn) send(b []byte, to netip.AddrPort) (int, error) {
	l := letters.Get().(*letter)
	defer func() {
		l.source.Reset(nil)
		letters.Put(l)
	}()
	options, limit := tcpip.WriteOptions{}, udpMax4
	if to.IsValid() {
		l.to = fullOf(to)
		options.To = &l.to
	} else {
		to = c.remote
	}
	if to.Addr().Is6() {
		limit = udpMax6
	}
	if len(b) > limit {
		return 0, c.fail("write", syscall.EMSGSIZE)
	}
	waited := false
	defer func() {
		if waited { // others may wait for the same room
			select {
			case c.writable <- struct{}{}:
			default:
			}
		}
	}()
	for {
		expired := c.writeDeadline.wait()
		select {
		case <-c.done:
			return 0, c.fail("write", net.ErrClosed)
		default:
		}
		select {
		case <-expired:
			return 0, c.fail("write", os.ErrDeadlineExceeded)
		default:
		}
		if c.gone.Load() {
			return 0, c.fail("write", errAddressGone)
		}
		if err := c.inbox.takeError(); err != nil {
			return 0, c.fail("write", err)
		}
		l.source.Reset(b)
		_, err := c.endpoint.Write(&l.source, options)
		switch err.(type) {
		case nil, *tcpip.ErrNoBufferSpace: // the latter: lost on the way, as datagrams may be
			return len(b), nil
		case *tcpip.ErrWouldBlock:
		default:
			return 0, c.fail("write", errno(err))
		}
		select {
		case <-c.writable:
			waited = true
		case <-expired:
		case <-c.done:
		}
	}
}

func (c *PacketConn) fail(op string, err error) error {
	select {
	case <-c.done:
		err = net.ErrClosed
	default:
		if c.stack.closed.Load() || errors.Is(err, syscall.EPIPE) {
			err = net.ErrClosed
		}
	}
	return opError(op, "udp", c.LocalAddr(), c.RemoteAddr(), err)
}

// Close ends the socket; blocked calls return net.ErrClosed.
func (c *PacketConn) Close() error {
	closed := false
	c.closeOnce.Do(func() {
		closed = true
		close(c.done)
		c.endpoint.Close()
		c.events.EventUnregister(&c.arrival)
		c.events.EventUnregister(&c.writeEntry)
		c.inbox.close(net.ErrClosed)
		c.stack.disown(c)
		c.readDeadline.set(time.Time{})
		c.writeDeadline.set(time.Time{})
	})
	if !closed {
		return c.fail("close", net.ErrClosed)
	}
	return nil
}

// LocalAddr is a *net.UDPAddr.
func (c *PacketConn) LocalAddr() net.Addr { return net.UDPAddrFromAddrPort(c.local) }

// RemoteAddr is the *net.UDPAddr given to DialUDP, nil after ListenUDP.
func (c *PacketConn) RemoteAddr() net.Addr {
	if !c.remote.IsValid() {
		return nil
	}
	return net.UDPAddrFromAddrPort(c.remote)
}

// SetDeadline sets both deadlines; see net.Conn.
func (c *PacketConn) SetDeadline(t time.Time) error {
	return c.setDeadlines(t, c.readDeadline, c.writeDeadline)
}

// SetReadDeadline is as in net.Conn.
func (c *PacketConn) SetReadDeadline(t time.Time) error { return c.setDeadlines(t, c.readDeadline) }

// SetWriteDeadline is as in net.Conn.
func (c *PacketConn) SetWriteDeadline(t time.Time) error { return c.setDeadlines(t, c.writeDeadline) }

func (c *PacketConn) setDeadlines(t time.Time, deadlines ...*deadline) error {
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
