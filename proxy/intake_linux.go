package proxy

import (
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// inAtOnce is how many datagrams one call receives at most. Each has room for
	// the largest one; of that, only what small ones fill ever becomes real memory.
	inAtOnce = 32
	ctrlSize = 64

	// Datagrams are held while there is no room where they go, which may take long
	// and happen to every flow at a time. So maxLent flows keep the intake (2 MB);
	// others keep copies of what was in it, and when these are more than maxCopied
	// bytes, of one datagram each. Nobody waits for anybody else.
	maxLent   = 24
	maxCopied = 8 << 20
)

var (
	lent   atomic.Int32 // intakes that are kept
	copied atomic.Int64 // bytes
)

// intake is what it takes to receive datagrams from a host socket, borrowed while
// there are any: see maxLent.
type intake struct {
	hdrs  [inAtOnce]unix.Mmsghdr
	iovs  [inAtOnce]unix.Iovec
	names [inAtOnce]unix.RawSockaddrInet6
	ctrl  [inAtOnce][ctrlSize]byte
	space []byte // inAtOnce times maxDatagram
	n     int

	data [inAtOnce][]byte
	from [inAtOnce]netip.AddrPort
	to   [inAtOnce]netip.Addr
}

var intakes = sync.Pool{New: func() any {
	in := &intake{space: make([]byte, inAtOnce*maxDatagram)}
	for i := range in.hdrs {
		in.iovs[i].Base = &in.space[i*maxDatagram]
		in.iovs[i].SetLen(maxDatagram)
		h := &in.hdrs[i].Hdr
		h.Iov = &in.iovs[i]
		h.SetIovlen(1)
		h.Name = (*byte)(unsafe.Pointer(&in.names[i]))
		h.Control = &in.ctrl[i][0]
	}
	return in
}}

func (in *intake) free() {
	clear(in.from[:in.n]) // zones are strings
	in.n = 0
	intakes.Put(in)
}

// lend calls take with what is in the intake and frees it.
func (in *intake) lend(wildcard bool, take func(mail)) {
	if lent.Add(1) <= maxLent {
		take(in.mail(wildcard))
		in.free()
		lent.Add(-1)
		return
	}
	lent.Add(-1)
	m := in.mail(wildcard).clone()
	in.free()
	size := sizeOf(m.data)
	copied.Add(size)
	take(m)
	copied.Add(-size)
}

// clone returns a copy to keep.
func (m mail) clone() mail {
	data := make([][]byte, len(m.data))
	for i, p := range m.data {
		data[i] = append([]byte{}, p...)
	}
	return mail{data, slices.Clone(m.from), slices.Clone(m.to)}
}

// mostNow is how many datagrams may be received at once.
func mostNow() int {
	if lent.Load() >= maxLent && copied.Load() >= maxCopied {
		return 1
	}
	return inAtOnce
}

// prepare makes the headers ready to receive up to most datagrams.
func (in *intake) prepare(most int) {
	for i := range in.hdrs[:most] {
		h := &in.hdrs[i].Hdr
		h.Namelen = uint32(unsafe.Sizeof(in.names[i]))
		h.SetControllen(ctrlSize)
		in.names[i].Family = unix.AF_UNSPEC
	}
}

// mail is what was received; it is valid until free.
func (in *intake) mail(wildcard bool) mail {
	for i := range in.n {
		in.data[i] = in.space[i*maxDatagram:][:in.hdrs[i].Len:in.hdrs[i].Len]
		in.from[i] = addrPortOfRaw(&in.names[i])
		if wildcard {
			h := &in.hdrs[i].Hdr
			in.to[i] = destination(in.ctrl[i][:min(int(h.Controllen), ctrlSize)])
		}
	}
	m := mail{data: in.data[:in.n], from: in.from[:in.n]}
	if wildcard {
		m.to = in.to[:in.n]
	}
	return m
}

// addrPortOfRaw is the zero AddrPort where there is no address.
func addrPortOfRaw(sa *unix.RawSockaddrInet6) netip.AddrPort {
	port := (*[2]byte)(unsafe.Pointer(&sa.Port))
	p := uint16(port[0])<<8 | uint16(port[1])
	switch sa.Family {
	case unix.AF_INET:
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(sa))
		return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), p)
	case unix.AF_INET6:
		a := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.Scope_id != 0 {
			a = a.WithZone(strconv.FormatUint(uint64(sa.Scope_id), 10))
		}
		return netip.AddrPortFrom(a, p)
	}
	return netip.AddrPort{}
}

// destination finds among control messages the address of this host that a datagram
// was sent to, or that speaks for the broadcast address it was sent to; the zero Addr
// if it was to a group.
func destination(ctrl []byte) netip.Addr {
	for len(ctrl) >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(unsafe.Pointer(&ctrl[0]))
		size := int(h.Len)
		if size < unix.SizeofCmsghdr || size > len(ctrl) {
			break
		}
		body := ctrl[unix.CmsgLen(0):size]
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO && len(body) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4((*unix.Inet4Pktinfo)(unsafe.Pointer(&body[0])).Spec_dst)
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO && len(body) >= unix.SizeofInet6Pktinfo:
			if a := netip.AddrFrom16((*unix.Inet6Pktinfo)(unsafe.Pointer(&body[0])).Addr); !a.IsMulticast() {
				return a
			}
			return netip.Addr{}
		}
		ctrl = ctrl[min(unix.CmsgSpace(size-unix.CmsgLen(0)), len(ctrl)):]
	}
	return netip.Addr{}
}
