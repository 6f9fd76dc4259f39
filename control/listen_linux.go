package control

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// deadPeer is how long sent bytes may stay unacknowledged before a connection
// counts as dead: a client that vanished frees its stream, and its lease
// begins, long before TCP itself would give up.
const deadPeer = 30 * time.Second

// controlListener sets options that accepted connections inherit.
func controlListener(_, _ string, c syscall.RawConn) error {
	return c.Control(func(fd uintptr) {
		// Best effort: without it only the keepalive finds dead peers.
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadPeer.Milliseconds()))
	})
}
