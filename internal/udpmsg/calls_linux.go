package udpmsg

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Receive receives up to n messages and returns how many it were; first is the
// first of that many headers side by side. It never waits: EAGAIN says that
// nothing is there.
func Receive(fd uintptr, first *unix.Mmsghdr, n int) (int, syscall.Errno) {
	got, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(first)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	return int(got), errno
}

// Send sends up to n messages and returns how many went; an error is that of
// the first one. It never waits: EAGAIN says that the socket is full.
func Send(fd uintptr, first *unix.Mmsghdr, n int) (int, syscall.Errno) {
	sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(first)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	return int(sent), errno
}
