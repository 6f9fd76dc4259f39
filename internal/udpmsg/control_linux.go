package udpmsg

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Joined is the room for the control message that says how long the datagrams
// in a received message are (UDP_GRO). It stays where it is while a header
// points to it.
type Joined struct {
	hdr  unix.Cmsghdr
	size int32
	_    [12]byte // its padding, and room to spare
}

// Ask makes the header of a message that is going to be received point to j. It
// is needed before each call, which writes over it.
func (j *Joined) Ask(h *unix.Msghdr) {
	h.Control = (*byte)(unsafe.Pointer(j))
	h.SetControllen(int(unsafe.Sizeof(*j)))
}

// Size returns how many bytes each datagram of a received message has, the last
// perhaps less; 0 where the message is one datagram. What it says is the kernel's:
// it may be more than the message has.
func (j *Joined) Size(h *unix.Msghdr) int {
	if int(h.Controllen) < unix.CmsgLen(4) || j.hdr.Level != unix.IPPROTO_UDP || j.hdr.Type != unix.UDP_GRO {
		return 0
	}
	return max(int(j.size), 0)
}

// Cut is the control message that says how long the datagrams are into which
// the kernel shall cut a message (UDP_SEGMENT). It stays where it is while a
// header points to it.
type Cut struct {
	hdr  unix.Cmsghdr
	size uint16
	_    [6]byte // its padding
}

// Into makes h one that is cut into datagrams of size bytes, the last perhaps less.
func (c *Cut) Into(h *unix.Msghdr, size int) {
	c.hdr.Level, c.hdr.Type = unix.IPPROTO_UDP, unix.UDP_SEGMENT
	c.hdr.SetLen(unix.CmsgLen(2))
	c.size = uint16(size)
	h.Control = (*byte)(unsafe.Pointer(c))
	h.SetControllen(unix.CmsgSpace(2))
}

// Whole makes h one that is not cut.
func Whole(h *unix.Msghdr) {
	h.Control = nil
	h.SetControllen(0)
}
