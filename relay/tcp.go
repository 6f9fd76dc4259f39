package relay

import (
	"crypto/tls"
	"net"
)

// Listener returns a listener whose connections cost a relay less: it is for
// the one below the HTTPS server that calls [Server.ServeHTTP]. What that
// accepts should not be wrapped in something else before TLS: each message then
// leaves by a write of its own. Connections that are not TCP stay as they are;
// without it a relay works as well.
func Listener(l net.Listener) net.Listener { return listener{l} }

type listener struct{ net.Listener }

// Accept implements [net.Listener].
func (l listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return quiet(c), nil
}

// tcpOf returns the TCP connection below TLS, or nil, and what it is wrapped
// in if it came by a [Listener] or from our dialler.
func tcpOf(conn net.Conn) (*net.TCPConn, *tcpConn) {
	if t, ok := conn.(*tls.Conn); ok {
		conn = t.NetConn()
	}
	if q, ok := conn.(*tcpConn); ok {
		return q.TCPConn, q
	}
	tcp, _ := conn.(*net.TCPConn)
	return tcp, nil
}
