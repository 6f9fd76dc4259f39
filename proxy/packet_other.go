//go:build !linux

package proxy

import (
	"errors"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

func newHostPeer(c *net.UDPConn) peer { return plainPeer{c} }

func newHostSocket(c *net.UDPConn) packetSocket { return &anySocket{c, make([]byte, maxDatagram)} }

// newWildcard makes a socket bound to 0.0.0.0 or [::] answer from the address
// it was asked at (IP_PKTINFO, RFC 3542 section 6).
func newWildcard(c *net.UDPConn, bound netip.Addr) (packetSocket, error) {
	buf := make([]byte, maxDatagram)
	if bound.Is4() {
		p := ipv4.NewPacketConn(c)
		if err := p.SetControlMessage(ipv4.FlagDst, true); err != nil {
			return nil, errors.Join(err, c.Close())
		}
		return &wildcard4{p, buf}, nil
	}
	p := ipv6.NewPacketConn(c)
	if err := p.SetControlMessage(ipv6.FlagDst|ipv6.FlagInterface, true); err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return &wildcard6{p, buf}, nil
}

type wildcard4 struct {
	conn *ipv4.PacketConn
	buf  []byte
}

func (s *wildcard4) receive(take func(mail)) error {
	n, cm, from, err := s.conn.ReadFrom(s.buf)
	if err != nil {
		return err
	}
	var to netip.Addr
	if cm != nil {
		to, _ = netip.AddrFromSlice(cm.Dst.To4())
	}
	take(mail{[][]byte{s.buf[:n]}, []netip.AddrPort{addrPortOf(from)}, []netip.Addr{to}})
	return nil
}

func (s *wildcard4) write(ps [][]byte, to netip.AddrPort, from netip.Addr) (int, error) {
	var cm *ipv4.ControlMessage
	if from.IsValid() {
		cm = &ipv4.ControlMessage{Src: from.AsSlice()}
	}
	for i, p := range ps {
		if _, err := s.conn.WriteTo(p, cm, net.UDPAddrFromAddrPort(to)); err != nil {
			return i, err
		}
	}
	return len(ps), nil
}

func (s *wildcard4) close() error { return s.conn.Close() }

type wildcard6 struct {
	conn *ipv6.PacketConn
	buf  []byte
}

func (s *wildcard6) receive(take func(mail)) error {
	n, cm, from, err := s.conn.ReadFrom(s.buf)
	if err != nil {
		return err
	}
	var to netip.Addr
	if cm != nil {
		to, _ = netip.AddrFromSlice(cm.Dst)
	}
	take(mail{[][]byte{s.buf[:n]}, []netip.AddrPort{addrPortOf(from)}, []netip.Addr{to}})
	return nil
}

func (s *wildcard6) write(ps [][]byte, to netip.AddrPort, from netip.Addr) (int, error) {
	var cm *ipv6.ControlMessage
	if from.IsValid() {
		cm = &ipv6.ControlMessage{Src: from.AsSlice()}
	}
	for i, p := range ps {
		if _, err := s.conn.WriteTo(p, cm, net.UDPAddrFromAddrPort(to)); err != nil {
			return i, err
		}
	}
	return len(ps), nil
}

func (s *wildcard6) close() error { return s.conn.Close() }
