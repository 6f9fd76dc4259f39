package relay

import (
	"net"

	"golang.org/x/sys/unix"
)

// limitUnsent keeps the kernel from taking megabytes a slow client will get
// seconds later: they wait in the fair queue, which knows what to drop.
func limitUnsent(conn net.Conn) {
	tcp, _ := tcpOf(conn)
	if tcp == nil {
		return
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT, 128<<10)
	})
}
