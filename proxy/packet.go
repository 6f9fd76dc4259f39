package proxy

import (
	"errors"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// maxDatagram holds any UDP payload: 65,507 bytes over IPv4, 65,527 over IPv6.
const maxDatagram = 1<<16 - 1

// packetSocket is a listening datagram socket that knows which of its
// addresses a datagram was sent to. write may be called by many at a time.
type packetSocket interface {
	// read returns the sender and, where the socket has several addresses, the
	// one the datagram was sent to (invalid otherwise).
	read(p []byte) (n int, from netip.AddrPort, to netip.Addr, err error)
	// write sends from the given address, as read returned it.
	write(p []byte, to netip.AddrPort, from netip.Addr) error
	close() error
}

// newPacketSocket takes a socket with one address.
func newPacketSocket(pc net.PacketConn) packetSocket {
	switch c := pc.(type) {
	case addrPortConn:
		return udpSocket{c}
	case plainAddrPortConn:
		return udpSocket{named{c}}
	}
	return anySocket{pc}
}

// addrPortConn is what *net.UDPConn has to spare allocations.
type addrPortConn interface {
	ReadFromUDPAddrPort([]byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort([]byte, netip.AddrPort) (int, error)
	Close() error
}

// plainAddrPortConn is the same under the names of other stacks.
type plainAddrPortConn interface {
	ReadFromAddrPort([]byte) (int, netip.AddrPort, error)
	WriteToAddrPort([]byte, netip.AddrPort) (int, error)
	Close() error
}

type named struct{ plainAddrPortConn }

func (n named) ReadFromUDPAddrPort(p []byte) (int, netip.AddrPort, error) {
	return n.ReadFromAddrPort(p)
}

func (n named) WriteToUDPAddrPort(p []byte, to netip.AddrPort) (int, error) {
	return n.WriteToAddrPort(p, to)
}

// udpSocket is a socket bound to one address.
type udpSocket struct{ conn addrPortConn }

func (s udpSocket) read(p []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, from, err := s.conn.ReadFromUDPAddrPort(p)
	return n, clean(from), netip.Addr{}, err
}

func (s udpSocket) write(p []byte, to netip.AddrPort, _ netip.Addr) error {
	_, err := s.conn.WriteToUDPAddrPort(p, to)
	return err
}

func (s udpSocket) close() error { return s.conn.Close() }

// anySocket is a socket of another stack bound to one address.
type anySocket struct{ pc net.PacketConn }

func (s anySocket) read(p []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, from, err := s.pc.ReadFrom(p)
	return n, addrPortOf(from), netip.Addr{}, err
}

func (s anySocket) write(p []byte, to netip.AddrPort, _ netip.Addr) error {
	_, err := s.pc.WriteTo(p, net.UDPAddrFromAddrPort(to))
	return err
}

func (s anySocket) close() error { return s.pc.Close() }

// newWildcard makes a socket bound to 0.0.0.0 or [::] answer from the address
// it was asked at (IP_PKTINFO, RFC 3542 section 6).
func newWildcard(c *net.UDPConn, bound netip.Addr) (packetSocket, error) {
	if bound.Is4() {
		p := ipv4.NewPacketConn(c)
		if err := p.SetControlMessage(ipv4.FlagDst, true); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return wildcard4{p}, nil
	}
	p := ipv6.NewPacketConn(c)
	if err := p.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return wildcard6{p}, nil
}

type wildcard4 struct{ conn *ipv4.PacketConn }

func (s wildcard4) read(p []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, cm, from, err := s.conn.ReadFrom(p)
	var to netip.Addr
	if cm != nil {
		to, _ = netip.AddrFromSlice(cm.Dst.To4())
	}
	return n, addrPortOf(from), to, err
}

func (s wildcard4) write(p []byte, to netip.AddrPort, from netip.Addr) error {
	var cm *ipv4.ControlMessage
	if from.IsValid() {
		cm = &ipv4.ControlMessage{Src: from.AsSlice()}
	}
	_, err := s.conn.WriteTo(p, cm, net.UDPAddrFromAddrPort(to))
	return err
}

func (s wildcard4) close() error { return s.conn.Close() }

type wildcard6 struct{ conn *ipv6.PacketConn }

func (s wildcard6) read(p []byte) (int, netip.AddrPort, netip.Addr, error) {
	n, cm, from, err := s.conn.ReadFrom(p)
	var to netip.Addr
	if cm != nil {
		to, _ = netip.AddrFromSlice(cm.Dst)
	}
	return n, addrPortOf(from), to, err
}

func (s wildcard6) write(p []byte, to netip.AddrPort, from netip.Addr) error {
	var cm *ipv6.ControlMessage
	if from.IsValid() {
		cm = &ipv6.ControlMessage{Src: from.AsSlice()}
	}
	_, err := s.conn.WriteTo(p, cm, net.UDPAddrFromAddrPort(to))
	return err
}

func (s wildcard6) close() error { return s.conn.Close() }
