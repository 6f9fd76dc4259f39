package bind

import (
	"net"
	"sync/atomic"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

// batchSize is the number of packets in one receive or send.
const batchSize = conn.IdealBatchSize

// batched carries many datagrams a system call: recvmmsg and sendmmsg, whose
// messages may be many datagrams each (UDP_GRO, UDP_SEGMENT). The calls are
// made here and not through x/net, which allocates an address for each
// datagram. They do not block, and so are not announced to Go's scheduler:
// what takes longer than 20 µs would otherwise lose its P to another thread.
type batched struct {
	raw  syscall.RawConn
	v6   bool
	cuts atomic.Bool // the kernel cuts messages into datagrams
	in   *inbox
}

// newCarrier makes the socket's buffers as large as the system allows and
// takes the fastest way the system has.
func newCarrier(c *net.UDPConn, v6 bool) carrier {
	raw, err := c.SyscallConn()
	if err != nil {
		return &plain{conn: c}
	}
	enlarge(raw)
	if !canBatch(raw) {
		return &plain{conn: c}
	}
	cuts, joins := offloads(raw)
	b := &batched{raw: raw, v6: v6, in: newInbox(raw, joins)}
	b.cuts.Store(cuts)
	return b
}

func enlarge(raw syscall.RawConn) {
	_ = raw.Control(func(fd uintptr) {
		for _, o := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
			_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, o, wantBuffer) // the latter two need privileges
		}
	})
}

// canBatch asks for batches of no messages: a sandbox may have no such calls,
// or forbid them.
func canBatch(raw syscall.RawConn) bool {
	ok := false
	var none unix.Mmsghdr
	err := raw.Control(func(fd uintptr) {
		_, _, in := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&none)), 0, unix.MSG_DONTWAIT, 0, 0)
		_, _, out := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&none)), 0, unix.MSG_DONTWAIT, 0, 0)
		ok = in == 0 && out == 0
	})
	return err == nil && ok
}

// offloads tells whether the kernel cuts messages that are sent, and asks it
// to join those received. Kernels that do not tell that they will (before
// 5.12) shall not.
func offloads(raw syscall.RawConn) (cuts, joins bool) {
	_ = raw.Control(func(fd uintptr) {
		_, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		cuts = err == nil
		if _, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO); err != nil {
			return
		}
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		on, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_GRO)
		joins = err == nil && on == 1
	})
	return cuts, joins
}

// setMark marks what the socket sends (SO_MARK).
func setMark(c *net.UDPConn, mark uint32) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var refused error
	err = raw.Control(func(fd uintptr) {
		refused = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK, int(mark))
	})
	if err != nil {
		return err
	}
	return refused
}
