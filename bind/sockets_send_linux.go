package bind

import (
	"errors"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/logkey"
	"nexd/internal/udpmsg"
)

const (
	maxSegments = 64 // of one message, as the kernel has it

	// maxJoined are the bytes in a message. Most devices cut what has less than
	// 65536 bytes with all headers (gso_max_size): Ethernet's, perhaps those of a
	// tunnel, IPv6's, UDP's. Above it the kernel cuts in software, and the other
	// side gets single datagrams.
	maxJoined = 65_400

	fitsAll = 1280 - 40 - 8 // bytes in a datagram for which no path is too small (RFC 8200 section 5)
)

// outbox is what one send needs, for a batch or for one packet.
type outbox struct {
	hdrs  []unix.Mmsghdr
	iovs  []unix.Iovec
	asks  []udpmsg.Cut
	first []int // the index of each message's first packet
	name  unix.RawSockaddrInet6

	send     func(fd uintptr, first *unix.Mmsghdr, n int) (int, syscall.Errno)
	call     func(fd uintptr) bool // made once
	next, to int                   // messages still to be sent
	errno    syscall.Errno
}

// Those for one packet take a fiftieth of the memory: while many peers do not
// answer, many handshake messages leave at a time.
var (
	outboxes = sync.Pool{New: func() any { return newOutbox(batchSize) }}
	singles  = sync.Pool{New: func() any { return newOutbox(1) }}
)

func newOutbox(packets int) *outbox {
	o := &outbox{
		hdrs: make([]unix.Mmsghdr, packets), iovs: make([]unix.Iovec, packets),
		asks: make([]udpmsg.Cut, packets), first: make([]int, packets),
	}
	o.call = o.some
	return o
}

// outboxFor returns one with room for so many packets, or for a batch.
func outboxFor(packets int) *outbox {
	if packets == 1 {
		return singles.Get().(*outbox)
	}
	return outboxes.Get().(*outbox)
}

// some sends until the socket is full; it is for a RawConn.
func (o *outbox) some(fd uintptr) bool {
	for o.next < o.to {
		n, errno := o.send(fd, &o.hdrs[o.next], o.to-o.next)
		switch errno {
		case 0:
			o.next += n
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
// as few messages in as few calls as can be. What the system refuses is not
// tried again: when it cannot cut, the packets that have not left go one by
// one, and when it has no batches, with a call for each.
func (b *batched) send(bufs [][]byte, to netip.AddrPort) error {
	if b.slowOut.Load() {
		return b.slow.send(bufs, to)
	}
	o := outboxFor(len(bufs))
	defer o.release()
	o.send = b.kernel.send
	namelen := udpmsg.PutAddr(&o.name, to, b.v6)
	gaveUp := false
	var err error
	for base := 0; base < len(bufs) && err == nil; base += batchSize {
		var now bool
		now, err = b.sendBatch(o, bufs[base:min(base+batchSize, len(bufs))], namelen)
		gaveUp = gaveUp || now
		if err == nil || o.errno == 0 {
			continue
		}
		h, at := &o.hdrs[o.next].Hdr, base+o.first[o.next]
		if unknown(o.errno) && h.Control == nil && !b.hasSent.Load() {
			err = b.sendSlowly(bufs, at, to, err)
			break
		}
		err = &stopped{at, int(h.Iovlen), err}
	}
	if err == nil && !b.hasSent.Load() {
		b.hasSent.Store(true)
	}
	if gaveUp {
		return conn.ErrUDPGSODisabled{RetryErr: closedAs(err)}
	}
	return err
}

// sendBatch sends up to batchSize packets. gaveUp says that it found out that
// messages are not cut. Of an error, o.next is the message and o.errno the cause.
func (b *batched) sendBatch(o *outbox, bufs [][]byte, namelen uint32) (gaveUp bool, err error) {
	o.fill(bufs, namelen, b.cuts.Load())
	err = o.write(b.raw)
	if o.errno == 0 || o.hdrs[o.next].Hdr.Control == nil {
		if err == nil && o.to < len(bufs) && !b.hasCut.Load() {
			b.hasCut.Store(true)
		}
		return false, err
	}
	switch why := o.errno; {
	case why == unix.EIO: // the device below cannot
	case unknown(why) && !b.hasCut.Load() && (why != unix.EINVAL || o.segment() <= fitsAll): // the system does not
	default: // among them EMSGSIZE and EINVAL: the packets are longer than this path's MTU
		return false, err
	}
	b.cuts.Store(false)
	left := o.first[o.next]
	o.fill(bufs[left:], namelen, false)
	err = o.write(b.raw)
	for i := range o.first[:o.to] {
		o.first[i] += left
	}
	return true, err
}

// segment is the size of the first packet in the message that was refused.
func (o *outbox) segment() int { return int(o.iovs[o.first[o.next]].Len) }

// sendSlowly sends the packets from at on with a call for each, since the system
// has not taken a batch yet. If it takes these, so it is for good: it is not a
// firewall that refused. Else the error is theirs.
func (b *batched) sendSlowly(bufs [][]byte, at int, to netip.AddrPort, why error) error {
	if err := b.slow.send(bufs[at:], to); err != nil {
		var part *stopped
		if errors.As(err, &part) {
			part.at += at
		}
		return err
	}
	if !b.slowOut.Swap(true) {
		b.log.Info("udp packets are sent one by one: the system refuses batches", logkey.Err, why)
	}
	return nil
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
		udpmsg.Whole(h)
		if n > 1 {
			o.asks[o.to].Into(h, len(bufs[i]))
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
	clear(o.iovs)
	if len(o.hdrs) == 1 {
		singles.Put(o)
	} else {
		outboxes.Put(o)
	}
}
