package netstack

import (
	"context"
	"net"
	"net/netip"
	"syscall"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/waiter"
)

// DialTCP connects to an address of the mesh, or to one of the stack's own. The
// error is (errors.Is) ECONNREFUSED when nobody listens there, ETIMEDOUT when
// nobody answers for about two minutes, EHOSTUNREACH or ENETUNREACH when the
// address cannot be reached (also: the stack has no address of that family), or
// the context's. When the context ends first, nothing of the attempt is left.
func (s *Stack) DialTCP(ctx context.Context, to netip.AddrPort) (*Conn, error) {
	to = netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	c, err := s.dialTCP(ctx, to)
	if err != nil {
		return nil, opError("dial", "tcp", nil, net.TCPAddrFromAddrPort(to), err)
	}
	return c, nil
}

func (s *Stack) dialTCP(ctx context.Context, to netip.AddrPort) (*Conn, error) {
	if err := s.checkOpen(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := checkRemote(to); err != nil {
		return nil, err
	}
	events := new(waiter.Queue)
	endpoint, terr := s.gvisor.NewEndpoint(tcp.ProtocolNumber, protocolOf(to.Addr()), events)
	if terr != nil {
		return nil, errno(terr)
	}
	c := newConn(s, endpoint, events, to)
	w := c.waiting()
	terr = endpoint.Connect(fullOf(to))
	if _, started := terr.(*tcpip.ErrConnectStarted); started {
		select {
		case <-w.writable:
			terr = endpoint.LastError()
		case <-ctx.Done():
			c.Reset()
			return nil, ctx.Err()
		}
	}
	if terr != nil {
		c.Reset()
		if err := s.checkOpen(); err != nil {
			return nil, err
		}
		return nil, errno(terr)
	}
	// A stack closed after the check above has not seen this endpoint perhaps.
	if err := s.checkOpen(); err != nil {
		c.Reset()
		return nil, err
	}
	c.waits.Store(nil) // nobody else has seen c yet
	w.end(events)
	c.begin()
	return c, nil
}

// checkRemote refuses what is not the address of one host elsewhere: such
// packets could only be dropped.
func checkRemote(to netip.AddrPort) error {
	addr := to.Addr()
	switch {
	case !addr.IsValid(), addr.IsUnspecified(), addr.IsMulticast(), addr == broadcast4:
		return syscall.ENETUNREACH
	case addr.IsLoopback():
		return syscall.EHOSTUNREACH
	case to.Port() == 0:
		return syscall.ECONNREFUSED
	}
	return nil
}

func protocolOf(addr netip.Addr) tcpip.NetworkProtocolNumber {
	if addr.Is4() {
		return header.IPv4ProtocolNumber
	}
	return header.IPv6ProtocolNumber
}

// fullOf names the interface too, which link-local addresses need.
func fullOf(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: nicID, Addr: toAddress(a.Addr()), Port: a.Port()}
}
