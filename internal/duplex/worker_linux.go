package duplex

import (
	"io"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// maxPieces is how many pieces one call to the kernel takes.
const maxPieces = 128

// worker runs flows, one after the other, and has what their calls to the
// kernel need. These never block, so the scheduler is not told of them.
type worker struct {
	next chan *flow

	raw syscall.RawConn // of the present flow
	err error           // of take

	// take and fill are given to the stack; each of the others is given to
	// RawConn.Control, which keeps the descriptor from being closed meanwhile.
	take func([][]byte) int
	fill func([]byte) error

	send, receive, look, inspect, ask func(fd uintptr)

	// arguments and results of the calls
	iovs  [maxPieces]unix.Iovec
	hdr   unix.Msghdr
	buf   []byte
	n     int
	errno syscall.Errno
	peeks [peekSize]byte
}

// peekSize bounds what is read at a time next to urgent data.
const peekSize = 512

var workers = sync.Pool{New: func() any { return newWorker() }}

func newWorker() *worker {
	w := &worker{next: make(chan *flow, 1)}
	w.take, w.fill = w.takePieces, w.fillFrom
	w.send, w.receive, w.look, w.inspect, w.ask = w.sendmsg, w.recv, w.fionread, w.recvPeek, w.soError
	return w
}

// takePieces sends the pieces to the socket and returns how many bytes it took.
func (w *worker) takePieces(pieces [][]byte) int {
	n := 0
	for _, p := range pieces {
		if n == maxPieces {
			break
		}
		if len(p) == 0 {
			continue
		}
		w.iovs[n].Base = &p[0]
		w.iovs[n].SetLen(len(p))
		n++
	}
	w.hdr.Iov = &w.iovs[0]
	w.hdr.SetIovlen(n)
	err := w.control(w.send)
	clear(w.iovs[:n])
	if err != nil {
		w.err = err
		return 0
	}
	return w.n
}

// fillFrom reads from the socket until b is full.
func (w *worker) fillFrom(b []byte) error {
	for len(b) > 0 {
		w.buf = b
		err := w.control(w.receive)
		w.buf = nil
		switch {
		case err != nil:
			return err
		case w.n == 0:
			return io.ErrUnexpectedEOF
		}
		b = b[w.n:]
	}
	return nil
}

// queued returns how many bytes wait in the socket, as far as it tells.
func (w *worker) queued(raw syscall.RawConn) int {
	w.raw = raw
	if w.control(w.look) != nil {
		return 0
	}
	return w.n
}

// peek returns how many bytes can be read at least; io.EOF after the FIN, EAGAIN
// when there are none.
func (w *worker) peek(raw syscall.RawConn) (int, error) {
	w.raw = raw
	if err := w.control(w.inspect); err != nil {
		return 0, err
	}
	if w.n == 0 {
		return 0, io.EOF
	}
	return w.n, nil
}

// socketError returns the error the socket has to tell, once.
func (w *worker) socketError(raw syscall.RawConn) error {
	w.raw = raw
	if err := w.control(w.ask); err != nil {
		return err
	}
	if w.n != 0 {
		return syscall.Errno(w.n)
	}
	return nil
}

// control makes one of the calls below, again when a signal came between.
func (w *worker) control(call func(fd uintptr)) error {
	for {
		if err := w.raw.Control(call); err != nil {
			return err
		}
		switch w.errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return w.errno
		}
	}
}

func (w *worker) sendmsg(fd uintptr) {
	n, _, errno := unix.RawSyscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&w.hdr)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
	w.n, w.errno = int(n), errno
}

func (w *worker) recv(fd uintptr) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&w.buf[0])), uintptr(len(w.buf)), unix.MSG_DONTWAIT, 0, 0)
	w.n, w.errno = int(n), errno
}

func (w *worker) recvPeek(fd uintptr) {
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&w.peeks[0])), peekSize, unix.MSG_DONTWAIT|unix.MSG_PEEK, 0, 0)
	w.n, w.errno = int(n), errno
}

func (w *worker) fionread(fd uintptr) {
	var v int32
	_, _, errno := unix.RawSyscall(unix.SYS_IOCTL, fd, unix.TIOCINQ, uintptr(unsafe.Pointer(&v)))
	w.n, w.errno = int(v), errno
}

func (w *worker) soError(fd uintptr) {
	var v int32
	size := uint32(unsafe.Sizeof(v))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_ERROR, uintptr(unsafe.Pointer(&v)), uintptr(unsafe.Pointer(&size)), 0)
	w.n, w.errno = int(v), errno
}
