package proxy

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// hostSocket is a datagram socket of this host: listening, or connected as the
// socket of a flow. It moves many datagrams with each call to the kernel and
// holds no buffer while it waits.
type hostSocket struct {
	conn     *net.UDPConn
	raw      syscall.RawConn
	err      error // why raw is missing
	wildcard bool  // told, and tells, which of the host's addresses is meant
	// segment is the largest datagram of which the kernel is given many in one
	// piece to cut (UDP_SEGMENT); it shrinks when a path turns out not to allow it.
	segment atomic.Int32
}

func hostSocketOf(c *net.UDPConn) *hostSocket {
	s := &hostSocket{conn: c}
	s.raw, s.err = c.SyscallConn()
	s.segment.Store(maxDatagram)
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
		failed error
	)
	err := s.raw.Read(func(fd uintptr) bool {
		in = intakes.Get().(*intake)
		failed = in.receive(fd)
		if failed == unix.EAGAIN {
			intakes.Put(in)
			in = nil
			return false
		}
		return true
	})
	if in != nil {
		defer in.free()
	}
	switch {
	case err != nil:
		return err
	case failed != nil:
		return os.NewSyscallError("recvmmsg", failed)
	}
	take(in.mail(s.wildcard))
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
		out.prepare(ps[sent:], int(s.segment.Load()))
		n, err := s.transmit(out)
		sent += n
		switch {
		case err == nil:
		case out.firstIsMany() && cannotSegment(err):
			// This size is too large for the way, or the device cannot cut.
			s.segment.Store(int32(out.firstSize() - 1))
		default:
			return sent, err
		}
	}
	return sent, nil
}

// cannotSegment tells errors that speak against many datagrams in one piece.
func cannotSegment(err error) bool {
	return errors.Is(err, unix.EIO) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EMSGSIZE)
}

// transmit gives what is prepared to the kernel, in one call, waiting while the
// socket takes nothing. It returns how many datagrams went; when it is none, why.
func (s *hostSocket) transmit(out *outlet) (n int, err error) {
	var failed error
	err = s.raw.Write(func(fd uintptr) bool {
		n, failed = out.send(fd)
		return failed != unix.EAGAIN
	})
	if err == nil && failed != nil {
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
