package relay

import (
	"encoding/binary"
	"net/netip"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The socket reads and writes with recvmmsg and sendmmsg, many datagrams a
// call, each of which may be many packets of one flow (UDP_GRO, UDP_SEGMENT).
// The calls are made here and not through x/net, which allocates an address
// for each datagram. They do not block, and so are not announced to Go's
// scheduler: what takes longer than 20 µs would otherwise lose its P to another
// thread, and keep the scheduler's monitor awake (12 % of a busy relay).

const (
	canShare  = true
	batch     = 32
	bufSize   = 64 << 10
	ctrlSize  = 64
	nameSize  = unix.SizeofSockaddrInet6
	maxPieces = maxOut * maxSegments
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
	ctrl   [batch][ctrlSize]byte
	bufs   []byte

	call  func(fd uintptr) bool // made once
	n     int
	errno syscall.Errno
}

func newInbox(s *Socket) *inbox {
	in := &inbox{socket: s, bufs: make([]byte, batch*bufSize)}
	for i := range in.hdrs {
		in.iovs[i].Base = &in.bufs[i*bufSize]
		in.iovs[i].SetLen(bufSize)
		h := &in.hdrs[i].Hdr
		h.Iov, h.Name, h.Control = &in.iovs[i], (*byte)(unsafe.Pointer(&in.names[i])), &in.ctrl[i][0]
		h.SetIovlen(1)
	}
	in.call = func(fd uintptr) bool {
		n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.hdrs[0])), batch, unix.MSG_DONTWAIT, 0, 0)
		in.n, in.errno = int(n), errno
		return errno != unix.EAGAIN
	}
	return in
}

// read waits for datagrams and returns how many came.
func (in *inbox) read() (int, error) {
	for i := range in.hdrs {
		h := &in.hdrs[i].Hdr
		h.Namelen, h.Flags = nameSize, 0
		h.SetControllen(ctrlSize)
	}
	if in.n > 1 && in.n < batch {
		// Under load, who sends may first send more: fewer calls for as many packets.
		unix.RawSyscall(unix.SYS_SCHED_YIELD, 0, 0, 0)
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

// packet returns the i-th datagram: the packets in it have size bytes each, the last perhaps less.
func (in *inbox) packet(i int) (packet []byte, size int, from netip.AddrPort) {
	h := &in.hdrs[i]
	at, n := i*bufSize, int(h.Len)
	return in.bufs[at : at+n : at+bufSize], in.segmentSize(i, n), addrOf(&in.names[i])
}

// segmentSize reads what UDP_GRO tells; a datagram that came alone has its own size.
func (in *inbox) segmentSize(i, n int) int {
	h := &in.hdrs[i].Hdr
	if int(h.Controllen) < unix.SizeofCmsghdr {
		return n
	}
	c := (*unix.Cmsghdr)(unsafe.Pointer(&in.ctrl[i][0]))
	if c.Level != unix.IPPROTO_UDP || c.Type != unix.UDP_GRO || int(h.Controllen) < unix.CmsgLen(4) {
		return n
	}
	return int(*(*int32)(unsafe.Pointer(&in.ctrl[i][unix.CmsgLen(0)])))
}

func addrOf(name *unix.RawSockaddrInet6) netip.AddrPort {
	port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&name.Port))[:])
	switch name.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), port)
	case unix.AF_INET6:
		return netip.AddrPortFrom(netip.AddrFrom16(name.Addr).Unmap(), port)
	}
	return netip.AddrPort{}
}

// putAddr writes an address in the form the socket takes and returns its length.
func (s *Socket) putAddr(name *unix.RawSockaddrInet6, a netip.AddrPort) uint32 {
	port := (*[2]byte)(unsafe.Pointer(&name.Port))
	binary.BigEndian.PutUint16(port[:], a.Port())
	if s.wide {
		name.Family, name.Flowinfo, name.Scope_id = unix.AF_INET6, 0, 0
		name.Addr = a.Addr().As16()
		return unix.SizeofSockaddrInet6
	}
	v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
	v4.Family, v4.Addr = unix.AF_INET, a.Addr().Unmap().As4()
	return unix.SizeofSockaddrInet4
}

// outboxSys is what the calls need, made when first used.
type outboxSys struct {
	hdrs  []unix.Mmsghdr
	names []unix.RawSockaddrInet6
	ctrl  [][ctrlSize]byte
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
	y.ctrl = make([][ctrlSize]byte, maxOut)
	y.iovs = make([]unix.Iovec, 0, 4*maxOut)
	y.which = make([]int, 0, maxOut)
	y.call = func(fd uintptr) bool {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&y.hdrs[y.from])), uintptr(y.to-y.from), unix.MSG_DONTWAIT, 0, 0)
		y.n, y.errno = int(n), errno
		return errno != unix.EAGAIN
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
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&y.names[k])), socket.putAddr(&y.names[k], m.to.addr)
		h.Control = nil
		h.SetControllen(0)
		if m.frames > 1 {
			c := (*unix.Cmsghdr)(unsafe.Pointer(&y.ctrl[k][0]))
			c.Level, c.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
			c.SetLen(unix.CmsgLen(2))
			*(*uint16)(unsafe.Pointer(&y.ctrl[k][unix.CmsgLen(0)])) = uint16(m.size)
			h.Control = &y.ctrl[k][0]
			h.SetControllen(unix.CmsgSpace(2))
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
