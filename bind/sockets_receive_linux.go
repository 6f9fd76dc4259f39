package bind

import (
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/logkey"
	"nexd/internal/udpmsg"
)

const (
	joinedMessages = 16       // read by one call where the kernel joins datagrams, at most
	joinedSize     = 64 << 10 // bytes, more than a message can have
)

// inbox reads a socket.
//
// Where the kernel joins datagrams a message needs room for the largest, so
// few of them are read into buffers of the inbox, and dealt out into the
// caller's; what these have no room for waits for the next call. Elsewhere
// each of the caller's buffers takes a datagram from the kernel.
type inbox struct {
	raw   syscall.RawConn
	hdrs  []unix.Mmsghdr
	iovs  []unix.Iovec
	names []unix.RawSockaddrInet6
	tells []udpmsg.Joined // nil: the kernel does not join
	room  []byte          // a buffer for each message

	next, got int // messages not dealt out yet
	taken     int // bytes dealt out of the next one

	call  func(fd uintptr) bool // made once
	want  int
	n     int
	errno syscall.Errno

	known sources
}

func newInbox(raw syscall.RawConn, receive func(uintptr, *unix.Mmsghdr, int) (int, syscall.Errno), joins bool, messages int) *inbox {
	in := &inbox{raw: raw}
	n := batchSize
	if joins {
		n = messages
		in.tells, in.room = make([]udpmsg.Joined, n), make([]byte, n*joinedSize)
	}
	in.hdrs, in.iovs, in.names = make([]unix.Mmsghdr, n), make([]unix.Iovec, n), make([]unix.RawSockaddrInet6, n)
	for i := range in.hdrs {
		h := &in.hdrs[i].Hdr
		h.Iov, h.Name = &in.iovs[i], (*byte)(unsafe.Pointer(&in.names[i]))
		h.SetIovlen(1)
		if joins {
			in.iovs[i].Base = &in.room[i*joinedSize]
			in.iovs[i].SetLen(joinedSize)
		}
	}
	in.call = func(fd uintptr) bool {
		in.n, in.errno = receive(fd, &in.hdrs[0], in.want)
		return in.errno != unix.EAGAIN
	}
	return in
}

func (b *batched) receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	if b.slowIn {
		return b.slow.receive(bufs, sizes, eps)
	}
	n, err := b.in.receive(bufs, sizes, eps)
	if err == nil || !unknown(b.in.errno) {
		return n, err
	}
	b.slowIn, b.in = true, nil
	_ = b.raw.Control(func(fd uintptr) {
		_ = b.kernel.setOption(fd, unix.UDP_GRO, 0) // joined ones could not be told apart any more
	})
	b.log.Info("udp packets are received one by one: the system refuses batches", logkey.Err, err)
	return b.slow.receive(bufs, sizes, eps)
}

func (in *inbox) receive(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	if in.tells == nil {
		return in.direct(bufs, sizes, eps)
	}
	for {
		if n := in.deal(bufs, sizes, eps); n > 0 {
			return n, nil
		}
		in.next, in.got, in.taken = 0, 0, 0
		n, err := in.read(len(in.hdrs))
		if err != nil {
			return 0, err
		}
		in.got = n
	}
}

// direct reads into the caller's buffers.
func (in *inbox) direct(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
	want := min(len(bufs), len(in.hdrs))
	for i := range want {
		in.iovs[i].Base = unsafe.SliceData(bufs[i])
		in.iovs[i].SetLen(len(bufs[i]))
	}
	n, err := in.read(want)
	if err != nil {
		return 0, err
	}
	for i := range n {
		from, h := udpmsg.Addr(&in.names[i]), &in.hdrs[i]
		if sizes[i] = int(h.Len); !from.IsValid() || h.Hdr.Flags&unix.MSG_TRUNC != 0 {
			sizes[i] = 0
		}
		eps[i] = in.known.endpoint(from)
	}
	return n, nil
}

// read waits for messages and returns how many came.
func (in *inbox) read(want int) (int, error) {
	for i := range want {
		h := &in.hdrs[i].Hdr
		h.Namelen, h.Flags = unix.SizeofSockaddrInet6, 0
		if in.tells != nil {
			in.tells[i].Ask(h)
		}
	}
	in.want, in.errno = want, 0
	for {
		if err := in.raw.Read(in.call); err != nil {
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

// deal gives out what was read, as much as there are buffers for, and returns
// the number of datagrams.
func (in *inbox) deal(bufs [][]byte, sizes []int, eps []conn.Endpoint) (n int) {
	for in.next < in.got && n < len(bufs) {
		i := in.next
		from, length := udpmsg.Addr(&in.names[i]), int(in.hdrs[i].Len)
		if !from.IsValid() { // of no family we know
			in.next++
			continue
		}
		at := i * joinedSize
		k, taken := split(in.room[at+in.taken:at+length], in.tells[i].Size(&in.hdrs[i].Hdr), bufs[n:], sizes[n:])
		ep := in.known.endpoint(from)
		for end := n + k; n < end; n++ {
			eps[n] = ep
		}
		if in.taken += taken; in.taken == length {
			in.next, in.taken = in.next+1, 0
		}
	}
	return n
}

// split copies a message's datagrams, of size bytes each and the last perhaps
// less, into one buffer each, as far as these go. It returns how many, and how
// many of the message's bytes they are. A size that cannot be means that the
// message is one datagram. A datagram that is longer than its buffer has size
// 0 there, like one without a content.
func split(message []byte, size int, bufs [][]byte, sizes []int) (n, taken int) {
	if size <= 0 || size > len(message) {
		size = len(message)
	}
	for n < len(bufs) && (taken < len(message) || n == 0) {
		one := message[taken:min(taken+size, len(message))]
		if sizes[n] = len(one); len(one) > len(bufs[n]) {
			sizes[n] = 0
		} else {
			copy(bufs[n], one)
		}
		taken += len(one)
		n++
	}
	return n, taken
}
