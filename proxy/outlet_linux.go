package proxy

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// outAtOnce is how many datagrams one call sends at most.
	outAtOnce = 64
	// maxSegments is how many datagrams the kernel cuts one piece into.
	maxSegments = 64
	// maxPiece keeps a piece below what links take at once, with all its headers.
	maxPiece = 65_000
)

// outlet is what it takes to send datagrams to one receiver.
type outlet struct {
	hdrs  [outAtOnce]unix.Mmsghdr
	iovs  [outAtOnce]unix.Iovec
	ctrl  [outAtOnce][ctrlSize]byte
	many  [outAtOnce]int // datagrams in each message
	name  unix.RawSockaddrInet6
	named uint32
	info  [ctrlSize]byte // the control message that all begin with
	infos int            // its bytes
	n     int            // messages
}

var outlets = sync.Pool{New: func() any { return new(outlet) }}

func (o *outlet) free() {
	clear(o.iovs[:])
	outlets.Put(o)
}

// address says where the datagrams go, nowhere for a connected socket, and which
// address of this host they come from, if that matters.
func (o *outlet) address(to netip.AddrPort, from netip.Addr) error {
	o.named, o.infos = 0, 0
	if !to.IsValid() {
		return nil
	}
	port := (*[2]byte)(unsafe.Pointer(&o.name.Port))
	port[0], port[1] = byte(to.Port()>>8), byte(to.Port())
	if to.Addr().Is4() {
		v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&o.name))
		v4.Family, v4.Addr = unix.AF_INET, to.Addr().As4()
		o.named = unix.SizeofSockaddrInet4
	} else {
		scope, err := scopeOf(to.Addr().Zone())
		if err != nil {
			return err
		}
		o.name.Family, o.name.Flowinfo = unix.AF_INET6, 0
		o.name.Addr, o.name.Scope_id = to.Addr().As16(), scope
		o.named = unix.SizeofSockaddrInet6
	}
	switch {
	case from.Is4():
		body := o.cmsg(o.info[:], unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo)
		*(*unix.Inet4Pktinfo)(body) = unix.Inet4Pktinfo{Spec_dst: from.As4()}
		o.infos = unix.CmsgSpace(unix.SizeofInet4Pktinfo)
	case from.Is6():
		body := o.cmsg(o.info[:], unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo)
		*(*unix.Inet6Pktinfo)(body) = unix.Inet6Pktinfo{Addr: from.As16()}
		o.infos = unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	}
	return nil
}

func scopeOf(zone string) (uint32, error) {
	if zone == "" {
		return 0, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		return uint32(n), nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return 0, fmt.Errorf("find interface %s: %w", zone, err)
	}
	return uint32(i.Index), nil
}

// cmsg writes the head of a control message and returns where its body goes.
func (o *outlet) cmsg(b []byte, level, kind int32, size int) unsafe.Pointer {
	h := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	h.Level, h.Type = level, kind
	h.SetLen(unix.CmsgLen(size))
	return unsafe.Pointer(&b[unix.CmsgLen(0)])
}

// prepare makes messages of the first of the datagrams. Datagrams of one size not
// above segment, the last of which may be smaller, become one message.
func (o *outlet) prepare(ps [][]byte, segment int) {
	ps = ps[:min(len(ps), outAtOnce)]
	o.n = 0
	for used := 0; len(ps) > 0; o.n++ {
		n := together(ps, segment)
		first := used
		for _, p := range ps[:n] {
			v := &o.iovs[used]
			*v = unix.Iovec{}
			if len(p) > 0 {
				v.Base = &p[0]
			}
			v.SetLen(len(p))
			used++
		}
		h := &o.hdrs[o.n].Hdr
		*h = unix.Msghdr{Iov: &o.iovs[first]}
		h.SetIovlen(n)
		if o.named > 0 {
			h.Name, h.Namelen = (*byte)(unsafe.Pointer(&o.name)), o.named
		}
		ctrl := &o.ctrl[o.n]
		size := copy(ctrl[:], o.info[:o.infos])
		if n > 1 {
			*(*uint16)(o.cmsg(ctrl[size:], unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)) = uint16(len(ps[0]))
			size += unix.CmsgSpace(2)
		}
		if size > 0 {
			h.Control = &ctrl[0]
			h.SetControllen(size)
		}
		o.many[o.n] = n
		ps = ps[n:]
	}
}

// together is how many of the datagrams, from the first, can be one message.
func together(ps [][]byte, segment int) int {
	size := len(ps[0])
	if size == 0 || size > segment {
		return 1
	}
	n := 1
	for n < min(len(ps), maxSegments, maxPiece/size) && len(ps[n]) > 0 && len(ps[n]) <= size {
		if n++; len(ps[n-1]) < size {
			break
		}
	}
	return n
}

func (o *outlet) firstIsMany() bool { return o.many[0] > 1 }
func (o *outlet) firstSize() int    { return int(o.iovs[0].Len) }

// datagrams is how many there are in the first n messages.
func (o *outlet) datagrams(n int) (sum int) {
	for _, m := range o.many[:n] {
		sum += m
	}
	return sum
}
