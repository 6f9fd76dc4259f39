//go:build !linux

package relay

import "net"

// tcpConn is a TCP connection below TLS: here, any.
type tcpConn struct{ *net.TCPConn }

// quiet returns c.
func quiet(c net.Conn) net.Conn { return c }

func (*tcpConn) hold() {}

func (*tcpConn) release() error { return nil }
