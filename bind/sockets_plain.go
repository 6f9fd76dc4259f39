package bind

import (
	"net"
	"net/netip"

	"golang.zx2c4.com/wireguard/conn"
)

// plain carries one datagram a call: where there is nothing better.
type plain struct {
	conn      *net.UDPConn
	connected bool
	known     sources
}

func newPlain(c *net.UDPConn) *plain { return &plain{conn: c, connected: c.RemoteAddr() != nil} }

func (p *plain) receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	n, from, err := p.conn.ReadFromUDPAddrPort(bufs[0])
	if err != nil {
		return 0, err
	}
	sizes[0], eps[0] = n, p.known.endpoint(netip.AddrPortFrom(from.Addr().Unmap().WithZone(""), from.Port()))
	return 1, nil
}

func (p *plain) send(bufs [][]byte, to netip.AddrPort) error {
	for i, b := range bufs {
		var err error
		if p.connected {
			_, err = p.conn.Write(b)
		} else {
			_, err = p.conn.WriteToUDPAddrPort(b, to)
		}
		if err != nil {
			return &stopped{i, 1, err}
		}
	}
	return nil
}

// sources holds the endpoints of addresses that were heard lately, so that
// packets of one source share one endpoint and cost no allocation. They are
// read by several goroutines and never change: their addresses are unmapped
// and they have no cached source, so neither [address] nor ClearSrc write.
// Addresses that fall on the same place take turns.
type sources [64]*conn.StdNetEndpoint

func (s *sources) endpoint(from netip.AddrPort) *conn.StdNetEndpoint {
	ip := from.Addr().As16()
	at := (uint16(ip[7]) ^ uint16(ip[13])<<2 ^ uint16(ip[14])<<1 ^ uint16(ip[15]) ^ from.Port() ^ from.Port()>>6) % uint16(len(s))
	if e := s[at]; e != nil && e.AddrPort == from {
		return e
	}
	e := &conn.StdNetEndpoint{AddrPort: from}
	s[at] = e
	return e
}
