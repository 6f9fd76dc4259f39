package relay

import (
	"net/netip"
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"nexd/internal/udpmsg"
)

// The socket reads and writes with recvmmsg and sendmmsg, many datagrams a
// call, each of which may be many packets of one flow (UDP_GRO, UDP_SEGMENT).

const (
	canShare  = true
	batch     = 64
	bufSize   = 64 << 10
	bufStride = bufSize + 2048 // else the heads of all buffers meet in the same few sets of a cache
	maxPieces = maxOut * maxSegments

	// A batch of so many packets that came alone is load enough to let the next
	// ones wait: for gatherFor, and the 50 µs that Linux adds to short sleeps.
	manyAlone = 8
	gatherFor = 20 * time.Microsecond
)

// sharePort lets several sockets be bound to one port.
func sharePort(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); e != nil {
		return e
	}
	return err
}

// tune sizes the buffers, asks for joined packets, finds out whether the
// kernel cuts them, and lets it fragment what is too long for a path. It
// returns the size of the receive buffer.
func (s *Socket) tune() (got int) {
	_ = s.raw.Control(func(fd uintptr) {
		set := func(level, opt, value int) error { return unix.SetsockoptInt(int(fd), level, opt, value) }
		for _, o := range []int{unix.SO_RCVBUF, unix.SO_SNDBUF, unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
			_ = set(unix.SOL_SOCKET, o, socketBuffer) // the latter two need privileges
		}
		_ = set(unix.IPPROTO_UDP, unix.UDP_GRO, 1)
		_ = set(unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DONT)
		if s.wide {
			_ = set(unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DONT)
		}
		_, err := unix.GetsockoptInt(int(fd), unix.IPPROTO_UDP, unix.UDP_SEGMENT)
		s.segment.Store(err == nil)
		got, _ = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF)
	})
	return got / 2 // the kernel doubles what was asked, for its own needs
}

// inbox reads datagrams of a socket, up to batch at a time.
type inbox struct {
	socket *Socket
	hdrs   [batch]unix.Mmsghdr
	iovs   [batch]unix.Iovec
	names  [batch]unix.RawSockaddrInet6
	joined [batch]udpmsg.Joined
	bufs   []byte

	call  func(fd uintptr) bool // made once
	n     int
	errno syscall.Errno
}

func newInbox(s *Socket) *inbox {
	in := &inbox{socket: s, bufs: make([]byte, batch*bufStride)}
	for i := range in.hdrs {
		in.iovs[i].Base = &in.bufs[i*bufStride]
		in.iovs[i].SetLen(bufSize)
		h := &in.hdrs[i].Hdr
		h.Iov, h.Name = &in.iovs[i], (*byte)(unsafe.Pointer(&in.names[i]))
		h.SetIovlen(1)
		in.ask(i)
	}
	in.call = func(fd uintptr) bool {
		in.n, in.errno = udpmsg.Receive(fd, &in.hdrs[0], batch)
		return in.errno != unix.EAGAIN
	}
	return in
}

// read waits for datagrams and returns how many came.
func (in *inbox) read() (int, error) {
	in.gather()
	for i := range max(in.n, 1) { // what the last call wrote over
		in.ask(i)
	}
	for {
		if err := in.socket.raw.Read(in.call); err != nil {
			return 0, err
		}
		switch in.errno {
		case 0:
			return in.n, nil
		case unix.EINTR:
			continue
		}
		return 0, os.NewSyscallError("recvmmsg", in.errno)
	}
}

// gather lets a socket under load have more in it before it is read: fewer calls
// for as many packets. Those that came alone, not joined, are given some time;
// otherwise who sends may first send more. A socket that has little to do waits
// for nothing.
func (in *inbox) gather() {
	switch {
	case in.n < 2 || in.n == batch:
	case in.n >= manyAlone && in.joined[0].Size(&in.hdrs[0].Hdr) == 0:
		_ = unix.Nanosleep(&unix.Timespec{Nsec: gatherFor.Nanoseconds()}, nil)
	default:
		unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
	}
}

// ask says how much room there is for the name and the control message of the i-th.
func (in *inbox) ask(i int) {
	h := &in.hdrs[i].Hdr
	h.Namelen, h.Flags = unix.SizeofSockaddrInet6, 0
	in.joined[i].Ask(h)
}

// packet returns the i-th datagram: the packets in it have size bytes each, the last perhaps less.
func (in *inbox) packet(i int) (packet []byte, size int, from netip.AddrPort) {
	h := &in.hdrs[i]
	at, n := i*bufStride, int(h.Len)
	if size = in.joined[i].Size(&h.Hdr); size == 0 {
		size = n // it came alone
	}
	return in.bufs[at : at+n : at+bufSize], size, udpmsg.Addr(&in.names[i])
}

// outboxSys is what the calls need, made when first used.
type outboxSys struct {
	hdrs  []unix.Mmsghdr
	names []unix.RawSockaddrInet6
	cuts  []udpmsg.Cut
	iovs  []unix.Iovec
	which []int // the index of the datagram of each header

	call     func(fd uintptr) bool
	from, to int // headers of this call
	n        int
	errno    syscall.Errno
}

func (y *outboxSys) init() {
	y.hdrs = make([]unix.Mmsghdr, maxOut)
	y.names = make([]unix.RawSockaddrInet6, maxOut)
	y.cuts = make([]udpmsg.Cut, maxOut)
	y.iovs = make([]unix.Iovec, 0, 4*maxOut)
	y.which = make([]int, 0, maxOut)
	y.call = func(fd uintptr) bool {
		y.n, y.errno = udpmsg.Send(fd, &y.hdrs[y.from], y.to-y.from)
		return y.errno != unix.EAGAIN
	}
}

// sendAll sends the datagrams, those of one group of sockets together.
func (o *outbox) sendAll(t *tally) {
	if o.sys.hdrs == nil {
		o.sys.init()
	}
	for next := 0; next < len(o.msgs); {
		group := o.msgs[next].to.udp.group
		socket := o.msgs[next].to.udp
		if o.own != nil && o.own.group == group {
			socket = o.own
		}
		// Mostly all are of one group; others wait for their turn in order.
		end := next + 1
		for end < len(o.msgs) && o.msgs[end].to.udp.group == group {
			end++
		}
		o.sendRange(socket, next, end, t)
		next = end
	}
}

func (o *outbox) sendRange(socket *Socket, from, to int, t *tally) {
	o.prepare(socket, from, to)
	y := &o.sys
	for y.from, y.to = 0, to-from; y.from < y.to; {
		if err := socket.raw.Write(y.call); err != nil {
			for _, i := range y.which[y.from:] {
				o.msgs[i].sent(t, false)
			}
			return
		}
		switch {
		case y.errno == unix.EINTR:
		case y.errno != 0:
			m := &o.msgs[y.which[y.from]]
			o.oneByOne(socket, m, y.errno, t)
			y.from++
		default:
			for _, i := range y.which[y.from : y.from+y.n] {
				o.msgs[i].sent(t, true)
			}
			y.from += y.n
		}
	}
}

// prepare fills the headers for the datagrams from … to.
func (o *outbox) prepare(socket *Socket, from, to int) {
	y := &o.sys
	pieces := 0
	for i := from; i < to; i++ {
		pieces += len(o.msgs[i].pieces)
	}
	if cap(y.iovs) < pieces {
		y.iovs = make([]unix.Iovec, 0, min(2*pieces, maxPieces))
	}
	y.iovs, y.which = y.iovs[:0], y.which[:0]
	for i := from; i < to; i++ {
		m, k := &o.msgs[i], i-from
		first := len(y.iovs)
		for _, p := range m.pieces {
			v := unix.Iovec{Base: &p[0]}
			v.SetLen(len(p))
			y.iovs = append(y.iovs, v)
		}
		h := &y.hdrs[k].Hdr
		h.Iov = &y.iovs[first]
		h.SetIovlen(len(m.pieces))
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&y.names[k])), udpmsg.PutAddr(&y.names[k], m.to.addr, socket.wide)
		udpmsg.Whole(h)
		if m.frames > 1 {
			y.cuts[k].Into(h, m.size)
		}
		y.which = append(y.which, i)
	}
}

// oneByOne sends a datagram the kernel did not take whole. EIO: the device
// below cannot cut, and will not later.
func (o *outbox) oneByOne(socket *Socket, m *outMsg, why syscall.Errno, t *tally) {
	if m.frames == 1 {
		m.sent(t, false)
		return
	}
	if why == unix.EIO {
		socket.segment.Store(false)
		m.to.udp.segment.Store(false)
	}
	whole := make([]byte, 0, m.bytes)
	for _, p := range m.pieces {
		whole = append(whole, p...)
	}
	for len(whole) > 0 {
		n := min(m.size, len(whole))
		if _, err := socket.WriteTo(whole[:n], m.to.addr); err != nil {
			t.drop(DropSend, 1)
		} else {
			t.packetsUDP++
			t.bytesUDP += uint64(n)
		}
		whole = whole[n:]
	}
}
