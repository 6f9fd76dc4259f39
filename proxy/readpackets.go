package proxy

import (
	"net"
	"net/netip"
)

// lender is a socket of another stack that lends out what it has received, so
// that who waits for a datagram needs no buffer. take may not keep p.
type lender interface {
	Receive(take func(p []byte, from netip.AddrPort)) error
}

// readPackets calls take with each datagram until the socket ends, and returns
// why. take may not keep its argument. A flow is quiet most of the time and
// there may be thousands, so no buffer is held meanwhile where that can be had.
func readPackets(c net.Conn, take func([]byte)) error {
	l, ok := c.(lender)
	if !ok {
		return readSocket(c, take)
	}
	lent := func(p []byte, _ netip.AddrPort) { take(p) }
	for {
		if err := l.Receive(lent); err != nil {
			return err
		}
	}
}
