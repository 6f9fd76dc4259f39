package bind

import (
	"encoding/binary"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
)

const (
	maxSegments = 64             // of one message, as the kernel has it
	maxJoined   = 65535 - 20 - 8 // bytes in a message, without the headers of IPv4 and UDP
)

// outbox is what one send needs.
type outbox struct {
	hdrs  [batchSize]unix.Mmsghdr
	iovs  [batchSize]unix.Iovec
	asks  [batchSize]segmentAsk
	first [batchSize]int // the index of each message's first packet
	name  unix.RawSockaddrInet6

	call     func(fd uintptr) bool // made once
	next, to int                   // messages still to be sent
	errno    syscall.Errno
}

// segmentAsk is the control message that says how long the datagrams in a message are.
type segmentAsk struct {
	hdr  unix.Cmsghdr
	size uint16
	_    [6]byte // its padding
}

var outboxes = sync.Pool{New: func() any {
	o := new(outbox)
	o.call = o.some
	return o
}}

// some sends until the socket is full; it is for a RawConn.
func (o *outbox) some(fd uintptr) bool {
	for o.next < o.to {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&o.hdrs[o.next])), uintptr(o.to-o.next), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			o.next += int(n)
		case unix.EINTR:
		case unix.EAGAIN:
			return false
		default:
			o.errno = errno
			return true
		}
	}
	return true
}

// send joins packets of one size, of which the last may be shorter, and sends
// as few messages in as few calls as can be. When the device below cannot cut
// (EIO) the packets that have not left go one by one, and so do all later ones.
func (b *batched) send(bufs [][]byte, to netip.AddrPort) error {
	o := outboxes.Get().(*outbox)
	defer o.release()
	namelen := o.address(to, b.v6)
	gaveUp := false
	var err error
	for len(bufs) > 0 && err == nil {
		n := min(len(bufs), batchSize)
		var now bool
		now, err = b.sendBatch(o, bufs[:n], namelen)
		gaveUp = gaveUp || now
		bufs = bufs[n:]
	}
	if gaveUp {
		return conn.ErrUDPGSODisabled{RetryErr: closedAs(err)}
	}
	return err
}

// sendBatch sends up to batchSize packets. gaveUp says that it found out that
// messages are not cut.
func (b *batched) sendBatch(o *outbox, bufs [][]byte, namelen uint32) (gaveUp bool, err error) {
	o.fill(bufs, namelen, b.cuts.Load())
	err = o.write(b.raw)
	if o.errno != unix.EIO || o.hdrs[o.next].Hdr.Control == nil {
		return false, err
	}
	b.cuts.Store(false)
	o.fill(bufs[o.first[o.next]:], namelen, false)
	return true, o.write(b.raw)
}

// address puts down where the messages go. A zone is left out.
func (o *outbox) address(to netip.AddrPort, v6 bool) (length uint32) {
	port := (*[2]byte)(unsafe.Pointer(&o.name.Port))
	binary.BigEndian.PutUint16(port[:], to.Port())
	if v6 {
		o.name.Family, o.name.Flowinfo, o.name.Scope_id = unix.AF_INET6, 0, 0
		o.name.Addr = to.Addr().As16()
		return unix.SizeofSockaddrInet6
	}
	v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&o.name))
	v4.Family, v4.Addr, v4.Zero = unix.AF_INET, to.Addr().As4(), [8]uint8{}
	return unix.SizeofSockaddrInet4
}

// fill makes messages of the packets, which are no more than batchSize.
func (o *outbox) fill(bufs [][]byte, namelen uint32, join bool) {
	o.next, o.to = 0, 0
	for i := 0; i < len(bufs); o.to++ {
		n := 1
		if join {
			n = run(bufs[i:])
		}
		for k, p := range bufs[i : i+n] {
			o.iovs[i+k].Base = unsafe.SliceData(p)
			o.iovs[i+k].SetLen(len(p))
		}
		h := &o.hdrs[o.to].Hdr
		h.Name, h.Namelen = (*byte)(unsafe.Pointer(&o.name)), namelen
		h.Iov = &o.iovs[i]
		h.SetIovlen(n)
		h.Control = nil
		h.SetControllen(0)
		if n > 1 {
			a := &o.asks[o.to]
			a.hdr.Level, a.hdr.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
			a.hdr.SetLen(unix.CmsgLen(2))
			a.size = uint16(len(bufs[i]))
			h.Control = (*byte)(unsafe.Pointer(a))
			h.SetControllen(unix.CmsgSpace(2))
		}
		o.first[o.to] = i
		i += n
	}
}

// run returns how many packets from the first on can be one message. Packets
// without a content cannot be in one.
func run(bufs [][]byte) int {
	size := len(bufs[0])
	bytes, n := size, 1
	for n < min(len(bufs), maxSegments) {
		next := len(bufs[n])
		if next == 0 || next > size || bytes+next > maxJoined {
			break
		}
		bytes += next
		n++
		if next < size {
			break
		}
	}
	return n
}

// write sends the messages up to the first error, which is that of o.next.
func (o *outbox) write(raw syscall.RawConn) error {
	o.errno = 0
	if err := raw.Write(o.call); err != nil {
		return err
	}
	if o.errno != 0 {
		return os.NewSyscallError("sendmmsg", o.errno)
	}
	return nil
}

// release gives the outbox back; it holds none of the packets any more.
func (o *outbox) release() {
	clear(o.iovs[:])
	outboxes.Put(o)
}
