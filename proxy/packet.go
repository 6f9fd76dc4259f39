package proxy

import (
	"net"
	"net/netip"
)

// maxDatagram holds any UDP payload: 65,507 bytes over IPv4, 65,527 over IPv6.
const maxDatagram = 1<<16 - 1

// packetSocket is a listening datagram socket that knows which of its
// addresses a datagram was sent to. write may be called by many at a time.
type packetSocket interface {
	// receive waits for datagrams and calls take once with those that are there.
	receive(take func(mail)) error
	// write sends datagrams from the given address, as receive told it, and
	// returns how many it has sent before the error.
	write(ps [][]byte, to netip.AddrPort, from netip.Addr) (int, error)
	close() error
}

// newPacketSocket takes a socket with one address.
func newPacketSocket(pc net.PacketConn) packetSocket {
	switch c := pc.(type) {
	case lendingSocket:
		return lentSocket{c}
	case *net.UDPConn:
		return newHostSocket(c)
	}
	return &anySocket{pc, make([]byte, maxDatagram)}
}

// lendingSocket is a socket of another stack.
type lendingSocket interface {
	lender
	WriteToAddrPort([]byte, netip.AddrPort) (int, error)
	Close() error
}

type lentSocket struct{ lendingSocket }

func (s lentSocket) receive(take func(mail)) error {
	return s.Receive(func(data [][]byte, from []netip.AddrPort) { take(mail{data: data, from: from}) })
}

func (s lentSocket) write(ps [][]byte, to netip.AddrPort, _ netip.Addr) (int, error) {
	for i, p := range ps {
		if _, err := s.WriteToAddrPort(p, to); err != nil {
			return i, err
		}
	}
	return len(ps), nil
}

func (s lentSocket) close() error { return s.Close() }

// anySocket is any other socket bound to one address.
type anySocket struct {
	pc  net.PacketConn
	buf []byte
}

func (s *anySocket) receive(take func(mail)) error {
	n, from, err := s.pc.ReadFrom(s.buf)
	if err != nil {
		return err
	}
	take(mail{data: [][]byte{s.buf[:n]}, from: []netip.AddrPort{addrPortOf(from)}})
	return nil
}

func (s *anySocket) write(ps [][]byte, to netip.AddrPort, _ netip.Addr) (int, error) {
	addr := net.UDPAddrFromAddrPort(to)
	for i, p := range ps {
		if _, err := s.pc.WriteTo(p, addr); err != nil {
			return i, err
		}
	}
	return len(ps), nil
}

func (s *anySocket) close() error { return s.pc.Close() }
