//go:build !linux

package proxy

import "net"

// readPackets calls take with each datagram until the socket ends, and returns
// why. take may not keep its argument.
func readPackets(c net.Conn, take func([]byte)) error {
	buf := make([]byte, maxDatagram)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		take(buf[:n])
	}
}
