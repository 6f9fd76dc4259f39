package bind

import (
	"net"

	"golang.org/x/sys/unix"

	"nexd/internal/logkey"
)

const (
	wantBuffer = 7 << 20 // bytes, what the inner socket asks for
	lowBuffer  = 1 << 20 // below this, bursts on fast or long paths get lost
)

// checkBuffers says it when the system gives sockets small buffers. The inner
// socket cannot be asked, so a second one is made the same way and closed.
func (b *Bind) checkBuffers() {
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		return
	}
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	var got int
	_ = raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, wantBuffer)
		_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, wantBuffer)
		got, err = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	})
	got /= 2 // the kernel doubles what was asked, for its own needs
	if err != nil || got >= lowBuffer {
		return
	}
	b.log.Info("small udp buffers: raise net.core.rmem_max and wmem_max to 7340032 for fast or long paths", logkey.Count, got)
}
