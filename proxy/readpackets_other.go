//go:build !linux

package proxy

import "net"

// readSocket is readPackets for sockets that do not lend.
func readSocket(c net.Conn, take func([]byte)) error {
	buf := make([]byte, maxDatagram)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return err
		}
		take(buf[:n])
	}
}
