package bind

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"nexd/internal/udpmsg"
)

// kernel is what [batched] asks of the system. Sandboxes refuse some of it, in
// ways of their own: tests put such ones in its place.
type kernel struct {
	// receive and send carry up to n messages and return how many it were. They
	// never wait.
	receive, send func(fd uintptr, first *unix.Mmsghdr, n int) (int, syscall.Errno)
	// option and setOption are those of a UDP socket.
	option    func(fd uintptr, name int) (int, error)
	setOption func(fd uintptr, name, value int) error
}

var linux = kernel{
	receive: udpmsg.Receive,
	send:    udpmsg.Send,
	option: func(fd uintptr, name int) (int, error) {
		return unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, name)
	},
	setOption: func(fd uintptr, name, value int) error {
		return unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, name, value)
	},
}

// probe asks for batches of no messages: a sandbox may have no such calls, or
// forbid them.
func (k kernel) probe(raw syscall.RawConn) error {
	var in, out syscall.Errno
	none := new(unix.Mmsghdr)
	err := raw.Control(func(fd uintptr) {
		_, in = k.receive(fd, none, 0)
		_, out = k.send(fd, none, 0)
	})
	switch {
	case err != nil:
		return err
	case in != 0:
		return os.NewSyscallError("recvmmsg", in)
	case out != 0:
		return os.NewSyscallError("sendmmsg", out)
	}
	return nil
}

// offloads tells whether the kernel cuts messages that are sent, and asks it
// to join those received. Kernels that do not tell that they will (before
// 5.12) shall not.
func (k kernel) offloads(raw syscall.RawConn) (cuts, joins bool) {
	_ = raw.Control(func(fd uintptr) {
		_, err := k.option(fd, unix.UDP_SEGMENT)
		cuts = err == nil
		if _, err := k.option(fd, unix.UDP_GRO); err != nil {
			return
		}
		_ = k.setOption(fd, unix.UDP_GRO, 1)
		on, err := k.option(fd, unix.UDP_GRO)
		joins = err == nil && on == 1
	})
	return cuts, joins
}

// unknown reports an errno of a call the system does not have, or forbids.
// Firewalls, too, say EPERM when something is sent.
func unknown(errno syscall.Errno) bool {
	switch errno {
	case unix.ENOSYS, unix.EPERM, unix.EACCES, unix.EINVAL, unix.ENOPROTOOPT, unix.EOPNOTSUPP:
		return true
	}
	return false
}
