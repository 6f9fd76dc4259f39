package duplex

import (
	"io"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// maxPieces is how many pieces one call to the kernel takes.
	maxPieces = 128
	// smallRead is what is read from a socket before anything is known of it.
	smallRead = 4 << 10
)

// kit is what a step needs for its calls to the kernel. They never block, so the
// scheduler is not told of them.
type kit struct {
	fd  uintptr
	err error // of take
	n   int   // of queued

	// Given to the stack.
	take func([][]byte) int
	fill func([]byte) error
	give func([]byte) error

	rest  []byte // of give
	iovs  [maxPieces]unix.Iovec
	hdr   unix.Msghdr
	small [smallRead]byte
}

var kits = sync.Pool{New: func() any {
	k := new(kit)
	k.take, k.fill, k.give = k.send, k.fillFrom, k.giveRest
	return k
}}

func (k *kit) free() {
	k.rest, k.err = nil, nil
	kits.Put(k)
}

// send sends the pieces to the socket and returns how many bytes it took.
func (k *kit) send(pieces [][]byte) int {
	n := 0
	for _, p := range pieces {
		if n == maxPieces {
			break
		}
		if len(p) == 0 {
			continue
		}
		k.iovs[n].Base = &p[0]
		k.iovs[n].SetLen(len(p))
		n++
	}
	k.hdr.Iov = &k.iovs[0]
	k.hdr.SetIovlen(n)
	defer clear(k.iovs[:n])
	return k.sendmsg()
}

// sendAll sends b until the socket takes no more; then err says why.
func (k *kit) sendAll(b []byte) (n int) {
	k.hdr.Iov = &k.iovs[0]
	k.hdr.SetIovlen(1)
	defer clear(k.iovs[:1])
	for n < len(b) && k.err == nil {
		k.iovs[0].Base = &b[n]
		k.iovs[0].SetLen(len(b) - n)
		n += k.sendmsg()
	}
	return n
}

func (k *kit) sendmsg() int {
	for {
		sent, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, k.fd, uintptr(unsafe.Pointer(&k.hdr)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch errno {
		case 0:
			return int(sent)
		case unix.EINTR:
		default:
			k.err = errno
			return 0
		}
	}
}

// recv reads into b, which is not empty.
func (k *kit) recv(b []byte) (int, error) {
	for {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, k.fd, uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, errno
		}
	}
}

// fillFrom reads from the socket until b is full.
func (k *kit) fillFrom(b []byte) error {
	for len(b) > 0 {
		n, err := k.recv(b)
		if err == nil && n == 0 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// giveRest fills b from what has been read; that is never less.
func (k *kit) giveRest(b []byte) error {
	n := copy(b, k.rest)
	k.rest = k.rest[n:]
	if n < len(b) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// queued returns how many bytes wait in the socket, as far as it tells: urgent
// data, and what is behind it, is not counted.
func (k *kit) queued() int {
	var v int32
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, k.fd, unix.TIOCINQ, uintptr(unsafe.Pointer(&v)))
	if errno != 0 {
		v = 0
	}
	k.n = int(v)
	return k.n
}

// socketError returns the error the socket has to tell, once.
func (k *kit) socketError() error {
	var v int32
	size := uint32(unsafe.Sizeof(v))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, k.fd, unix.SOL_SOCKET, unix.SO_ERROR, uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&size)), 0)
	switch {
	case errno != 0:
		return errno
	case v != 0:
		return unix.Errno(v)
	}
	return nil
}

// hungUp reports whether both directions of the socket have ended.
func (k *kit) hungUp() bool {
	look := unix.PollFd{Fd: int32(k.fd)}
	var now unix.Timespec
	n, _, errno := unix.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&look)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
	return errno == 0 && n == 1 && look.Revents&unix.POLLHUP != 0
}
