package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// cutMemory is how long a size is remembered that the kernel did not cut: the way
// was perhaps that of one receiver only, and ways change.
const cutMemory = time.Minute

// hostSocket is a datagram socket of this host: listening, or connected as the
// socket of a flow. It moves many datagrams with each call to the kernel where
// that can be had, and holds no buffer while it waits.
type hostSocket struct {
	conn     *net.UDPConn
	raw      syscall.RawConn
	err      error // why raw is missing
	kernel   *kernel
	wildcard bool                     // told, and tells, which of the host's addresses is meant
	cuts     bool                     // the kernel cuts one piece into many datagrams (UDP_SEGMENT)
	limit    atomic.Pointer[cutLimit] // of their size; nil for none
	in, out  atomic.Int32             // untried, batches or singles
}

// cutLimit is a time during which larger datagrams go one by one.
type cutLimit struct {
	size  int           // bytes
	until time.Duration // on the kernel's clock
}

func hostSocketOf(c *net.UDPConn) *hostSocket { return hostSocketIn(c, linux) }

func hostSocketIn(c *net.UDPConn, k *kernel) *hostSocket {
	s := &hostSocket{conn: c, kernel: k}
	if s.raw, s.err = c.SyscallConn(); s.err != nil {
		return s
	}
	// Kernels that cannot (before 4.18) ignore the control message, so ask.
	_ = s.raw.Control(func(fd uintptr) {
		_, err := k.option(fd, unix.UDP_SEGMENT)
		s.cuts = err == nil
	})
	return s
}

func newHostPeer(c *net.UDPConn) peer { return hostPeer{hostSocketOf(c)} }

func newHostSocket(c *net.UDPConn) packetSocket { return hostSocketOf(c) }

// newWildcard makes a socket bound to 0.0.0.0 or [::] answer from the address
// it was asked at (IP_PKTINFO, RFC 3542 section 6).
func newWildcard(c *net.UDPConn, bound netip.Addr) (packetSocket, error) {
	s := hostSocketOf(c)
	s.wildcard = true
	if s.err != nil {
		return nil, errors.Join(s.err, c.Close())
	}
	var failed error
	err := s.raw.Control(func(fd uintptr) {
		if bound.Is4() {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
		} else {
			failed = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
		}
	})
	if err == nil {
		err = os.NewSyscallError("setsockopt", failed)
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return s, nil
}

func (s *hostSocket) receive(take func(mail)) error {
	if s.err != nil {
		return s.err
	}
	var (
		in     *intake
		failed syscall.Errno
	)
	err := s.raw.Read(func(fd uintptr) bool {
		in = intakes.Get().(*intake)
		if failed = s.receiveNow(fd, in, mostNow()); failed != 0 {
			in.free()
			in = nil
		}
		return failed != unix.EAGAIN
	})
	switch {
	case err != nil:
		return err
	case failed != 0:
		return os.NewSyscallError("recvmmsg", failed)
	}
	in.lend(s.wildcard, take)
	return nil
}

func (s *hostSocket) write(ps [][]byte, to netip.AddrPort, from netip.Addr) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	out := outlets.Get().(*outlet)
	defer out.free()
	if err := out.address(to, from); err != nil {
		return 0, err
	}
	sent := 0
	for sent < len(ps) {
		out.prepare(ps[sent:], s.largestCut())
		n, err := s.transmit(out)
		sent += n
		switch {
		case err == nil:
		case out.firstIsMany() && cannotCut(err):
			// This size is too large for the way, or the device cannot cut.
			s.cutBelow(out.firstSize())
		default:
			return sent, err
		}
	}
	return sent, nil
}

// cannotCut tells errors that speak against many datagrams in one piece.
func cannotCut(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && (errno == unix.EIO || errno == unix.EMSGSIZE || refuses(errno))
}

// largestCut is the largest datagram of which the kernel may be given many in one
// piece.
func (s *hostSocket) largestCut() int {
	if !s.cuts {
		return 0
	}
	l := s.limit.Load()
	if l == nil {
		return maxDatagram
	}
	if s.kernel.now() < l.until {
		return l.size
	}
	s.limit.CompareAndSwap(l, nil)
	return maxDatagram
}

// cutBelow makes datagrams of a size and above go one by one for some time.
func (s *hostSocket) cutBelow(size int) {
	l := &cutLimit{size - 1, s.kernel.now() + cutMemory}
	for old := s.limit.Load(); old == nil || l.size < old.size; old = s.limit.Load() {
		if s.limit.CompareAndSwap(old, l) {
			return
		}
	}
}

// transmit gives what is prepared to the kernel, waiting while the socket takes
// nothing. It returns how many datagrams went; when it is none, why.
func (s *hostSocket) transmit(out *outlet) (n int, err error) {
	var failed syscall.Errno
	err = s.raw.Write(func(fd uintptr) bool {
		n, failed = s.sendNow(fd, out)
		return failed != unix.EAGAIN
	})
	if err == nil && failed != 0 {
		err = os.NewSyscallError("sendmmsg", failed)
	}
	return n, err
}

func (s *hostSocket) close() error { return s.conn.Close() }

// hostPeer is a connected hostSocket.
type hostPeer struct{ socket *hostSocket }

func (p hostPeer) receive(take func([][]byte)) error {
	data := func(m mail) { take(m.data) }
	for {
		if err := p.socket.receive(data); err != nil {
			return err
		}
	}
}

func (p hostPeer) send(ps [][]byte) (int, error) {
	return p.socket.write(ps, netip.AddrPort{}, netip.Addr{})
}

func (p hostPeer) close() { _ = p.socket.close() }
