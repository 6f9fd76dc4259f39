package proxy

import (
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"nexd/internal/udpmsg"
)

// kernel is what a hostSocket asks of the system. Old ones do not have all of it
// and sandboxes refuse some: tests put such ones in its place.
type kernel struct {
	// receive and send carry up to n messages and return how many it were. No call
	// waits.
	receive, send func(fd uintptr, first *unix.Mmsghdr, n int) (int, syscall.Errno)
	// receiveOne and sendOne carry one message, as every system can.
	receiveOne, sendOne func(fd uintptr, m *unix.Mmsghdr) syscall.Errno
	// option is that of a UDP socket.
	option func(fd uintptr, name int) (int, error)
	now    func() time.Duration // monotonic
}

var linux = &kernel{
	receive: udpmsg.Receive,
	send:    udpmsg.Send,
	receiveOne: func(fd uintptr, m *unix.Mmsghdr) syscall.Errno {
		n, _, errno := unix.RawSyscall(unix.SYS_RECVMSG, fd, uintptr(unsafe.Pointer(&m.Hdr)), unix.MSG_DONTWAIT)
		m.Len = uint32(n)
		return errno
	},
	sendOne: func(fd uintptr, m *unix.Mmsghdr) syscall.Errno {
		_, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&m.Hdr)), unix.MSG_DONTWAIT)
		return errno
	},
	option: func(fd uintptr, name int) (int, error) {
		return unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, name)
	},
	now: func() time.Duration { return time.Since(epoch) },
}

// How many messages a socket's calls carry, as far as it is known.
const (
	untried = iota
	batches
	singles // the system refuses recvmmsg or sendmmsg, and not recvmsg or sendmsg
)

// refuses reports an errno of a call that the system does not have, or forbids.
// Firewalls, too, say EPERM when something is sent.
func refuses(errno syscall.Errno) bool {
	switch errno {
	case unix.ENOSYS, unix.EPERM, unix.EACCES, unix.EINVAL, unix.ENOPROTOOPT, unix.EOPNOTSUPP:
		return true
	}
	return false
}

// receiveNow takes up to most datagrams that are there; EAGAIN when that is none.
func (s *hostSocket) receiveNow(fd uintptr, in *intake, most int) syscall.Errno {
	way := s.in.Load()
	if way == singles {
		most = 1
	}
	in.prepare(most)
	if way != singles {
		n, errno := s.kernel.receive(fd, &in.hdrs[0], most)
		for errno == unix.EINTR {
			n, errno = s.kernel.receive(fd, &in.hdrs[0], most)
		}
		switch {
		case errno == 0:
			if in.n = n; way == untried {
				s.in.Store(batches)
			}
			return 0
		case way == batches || !refuses(errno):
			return errno
		}
	}
	errno := s.kernel.receiveOne(fd, &in.hdrs[0])
	for errno == unix.EINTR {
		errno = s.kernel.receiveOne(fd, &in.hdrs[0])
	}
	if errno == 0 {
		in.n = 1
	}
	if way == untried && (errno == 0 || errno == unix.EAGAIN) {
		s.in.Store(singles)
	}
	return errno
}

// sendNow returns how many datagrams of what is prepared the system has taken, or
// why none.
func (s *hostSocket) sendNow(fd uintptr, out *outlet) (int, syscall.Errno) {
	way := s.out.Load()
	if way != singles {
		n, errno := s.kernel.send(fd, &out.hdrs[0], out.n)
		for errno == unix.EINTR {
			n, errno = s.kernel.send(fd, &out.hdrs[0], out.n)
		}
		switch {
		case errno == 0:
			if way == untried {
				s.out.Store(batches)
			}
			return out.datagrams(n), 0
		case way == batches || !refuses(errno):
			return 0, errno
		}
	}
	for i := range out.n {
		errno := s.kernel.sendOne(fd, &out.hdrs[i])
		for errno == unix.EINTR {
			errno = s.kernel.sendOne(fd, &out.hdrs[i])
		}
		if errno != 0 {
			if i > 0 {
				errno = 0 // it is told when the rest is sent
			}
			return out.datagrams(i), errno
		}
		s.out.Store(singles) // it was no firewall that refused
	}
	return out.datagrams(out.n), 0
}
