package proxy

import (
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

var packetBuffers = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// readSocket is readPackets for sockets that do not lend. A host socket borrows
// a buffer only once a datagram is there; others keep one.
func readSocket(c net.Conn, take func([]byte)) error {
	udp, ok := c.(*net.UDPConn)
	if !ok {
		return readOwning(c, take)
	}
	rc, err := udp.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var (
			buf  *[maxDatagram]byte
			n    int
			rerr error
		)
		err := rc.Read(func(fd uintptr) bool {
			buf = packetBuffers.Get().(*[maxDatagram]byte)
			for {
				n, rerr = unix.Read(int(fd), buf[:])
				if rerr != syscall.EINTR {
					break
				}
			}
			if rerr == syscall.EAGAIN {
				packetBuffers.Put(buf)
				buf = nil
				return false
			}
			return true
		})
		if err == nil {
			err = rerr
		}
		if err == nil {
			take(buf[:n])
		}
		if buf != nil {
			packetBuffers.Put(buf)
		}
		if err != nil {
			return err
		}
	}
}

// readOwning is readSocket with a buffer of its own.
func readOwning(c io.Reader, take func([]byte)) error {
	buf := packetBuffers.Get().(*[maxDatagram]byte)
	defer packetBuffers.Put(buf)
	for {
		n, err := c.Read(buf[:])
		if err != nil {
			return err
		}
		take(buf[:n])
	}
}
