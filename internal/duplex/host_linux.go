package duplex

import (
	"io"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// spliceMin is the queue length from which moving bytes inside the kernel is
// cheaper than a read and a write.
const spliceMin = 64 << 10

// splice moves what is already queued in src to dst inside the kernel, when
// both are host sockets that can; otherwise it does nothing. It asks for no
// more than is queued, so it never waits for src and the counters stay live.
func (h *half) splice() error {
	dst, ok := h.dst.(*net.TCPConn)
	if !ok {
		return nil
	}
	switch h.src.(type) {
	case *net.TCPConn, *net.UnixConn:
	default:
		return nil
	}
	for {
		n := queued(h.src.(syscall.Conn))
		if n < spliceMin {
			return nil
		}
		w, err := dst.ReadFrom(&io.LimitedReader{R: h.src, N: int64(n)})
		h.count(int(w))
		if err != nil {
			return err
		}
	}
}

// queued returns the bytes waiting in the socket's receive queue; 0 if unknown.
func queued(c syscall.Conn) (n int) {
	rc, err := c.SyscallConn()
	if err != nil {
		return 0
	}
	_ = rc.Control(func(fd uintptr) {
		if v, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ); err == nil {
			n = v
		}
	})
	return n
}

// watchHost is watchReset for host sockets.
func watchHost(src net.Conn) error {
	tcp, ok := src.(*net.TCPConn)
	if !ok {
		return nil
	}
	rc, err := tcp.SyscallConn()
	if err != nil {
		return nil
	}
	var seen error
	// The poller wakes a reader for errors too; the FIN itself was reported
	// before and does not wake it again.
	_ = rc.Read(func(fd uintptr) bool {
		v, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR)
		if err == nil && v != 0 {
			seen = syscall.Errno(v)
		}
		return seen != nil
	})
	return seen
}
