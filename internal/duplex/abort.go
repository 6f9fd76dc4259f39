package duplex

import "net"

// closeWriter is a stream that can send a FIN and still be read.
type closeWriter interface{ CloseWrite() error }

// resetter is a stream of a user-space stack that can send a RST.
type resetter interface{ Reset() }

// resetterErr is a resetter that reports whether it could.
type resetterErr interface{ Reset() error }

// lingerer is a host TCP socket: closing it with linger 0 sends a RST.
type lingerer interface{ SetLinger(sec int) error }

// Abort closes c with a RST where c can send one, so that its peer does not
// take what it got for a whole stream, and plainly where it cannot.
func Abort(c net.Conn) {
	switch s := c.(type) {
	case resetter:
		s.Reset()
	case resetterErr:
		_ = s.Reset()
	case lingerer:
		_ = s.SetLinger(0)
	}
	_ = c.Close()
}
