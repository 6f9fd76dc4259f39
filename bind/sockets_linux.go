package bind

import (
	"log/slog"
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/logkey"
)

// batchSize is the number of packets in one receive or send.
const batchSize = conn.IdealBatchSize

// batched carries many datagrams a system call: recvmmsg and sendmmsg, whose
// messages may be many datagrams each (UDP_GRO, UDP_SEGMENT).
type batched struct {
	raw    syscall.RawConn
	kernel kernel
	log    *slog.Logger
	v6     bool
	in     *inbox

	cuts            atomic.Bool // the kernel cuts messages into datagrams
	hasCut, hasSent atomic.Bool // some have passed, so what is refused later has another reason

	// What is used where a sandbox refuses the calls after all.
	slow    *plain
	slowIn  bool // belongs to the receiver
	slowOut atomic.Bool
}

// newCarrier makes the socket's buffers as large as the system allows and
// takes the fastest way the system has.
func newCarrier(c *net.UDPConn, v6 bool, log *slog.Logger) carrier {
	return newBatched(c, v6, linux, joinedMessages, log)
}

// newSmallCarrier is newCarrier for a socket with little traffic.
func newSmallCarrier(c *net.UDPConn, v6 bool, log *slog.Logger) carrier {
	return newBatched(c, v6, linux, joinedMessages/4, log)
}

func newBatched(c *net.UDPConn, v6 bool, k kernel, messages int, log *slog.Logger) carrier {
	slow := newPlain(c)
	raw, err := c.SyscallConn()
	if err != nil {
		return slow
	}
	enlarge(raw)
	if err := k.probe(raw); err != nil {
		log.Info("no batches of udp packets: one system call for each", logkey.Err, err)
		return slow
	}
	cuts, joins := k.offloads(raw)
	b := &batched{raw: raw, kernel: k, log: log, v6: v6, slow: slow, in: newInbox(raw, k.receive, joins, messages)}
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
