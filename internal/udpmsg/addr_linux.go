package udpmsg

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Addr reads a source address, of IPv4 where it is one in IPv6's form. Its zone
// is not told: nothing is sent to addresses that need one. It is the zero
// AddrPort for a family we do not know.
func Addr(name *unix.RawSockaddrInet6) netip.AddrPort {
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

// PutAddr puts down where a message goes, in the form an IPv6 socket takes (wide)
// or an IPv4 one, to which only IPv4 addresses may be given. It returns the
// length, in bytes. A zone is left out.
func PutAddr(name *unix.RawSockaddrInet6, to netip.AddrPort, wide bool) (length uint32) {
	port := (*[2]byte)(unsafe.Pointer(&name.Port))
	binary.BigEndian.PutUint16(port[:], to.Port())
	if wide {
		name.Family, name.Flowinfo, name.Scope_id = unix.AF_INET6, 0, 0
		name.Addr = to.Addr().As16()
		return unix.SizeofSockaddrInet6
	}
	v4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
	v4.Family, v4.Addr, v4.Zero = unix.AF_INET, to.Addr().Unmap().As4(), [8]uint8{}
	return unix.SizeofSockaddrInet4
}
