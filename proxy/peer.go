package proxy

import (
	"net"
	"net/netip"
)

// mail is some datagrams that were received together. Who is given it may not
// keep what is in it.
type mail struct {
	data [][]byte
	from []netip.AddrPort
	to   []netip.Addr // nil for sockets with one address
}

// addressee returns which of the socket's addresses a datagram was sent to.
func (m mail) addressee(i int) netip.Addr {
	if m.to == nil {
		return netip.Addr{}
	}
	return m.to[i]
}

// lender is a socket of another stack that lends out what it has received, so
// that who waits for a datagram needs no buffer. take may not keep p.
type lender interface {
	Receive(take func(data [][]byte, from []netip.AddrPort)) error
}

// peer is a flow's socket: it exchanges datagrams with one address. A flow is
// quiet most of the time and there may be thousands, so no buffer is held
// meanwhile where that can be had.
type peer interface {
	// receive calls take with what comes until the socket ends, and returns why.
	// take may not keep its argument.
	receive(take func([][]byte)) error
	// send sends datagrams, and returns how many it has sent before the error.
	send([][]byte) (int, error)
	close()
}

func newPeer(c net.Conn) peer {
	if l, ok := c.(lender); ok {
		return lendingPeer{plainPeer{c}, l}
	}
	if udp, ok := c.(*net.UDPConn); ok {
		return newHostPeer(udp)
	}
	return plainPeer{c}
}

// lendingPeer is a flow's socket of another stack.
type lendingPeer struct {
	plainPeer
	lender lender
}

func (p lendingPeer) receive(take func([][]byte)) error {
	lent := func(data [][]byte, _ []netip.AddrPort) { take(data) }
	for {
		if err := p.lender.Receive(lent); err != nil {
			return err
		}
	}
}

// plainPeer is any other flow's socket.
type plainPeer struct{ conn net.Conn }

func (p plainPeer) receive(take func([][]byte)) error {
	buf := make([]byte, maxDatagram)
	for {
		n, err := p.conn.Read(buf)
		if err != nil {
			return err
		}
		take([][]byte{buf[:n]})
	}
}

func (p plainPeer) send(ps [][]byte) (int, error) {
	for i, b := range ps {
		if _, err := p.conn.Write(b); err != nil {
			return i, err
		}
	}
	return len(ps), nil
}

func (p plainPeer) close() { _ = p.conn.Close() }
