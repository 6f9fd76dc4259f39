package netstack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// parse reads as much of an IP packet as the link needs: that it is whole, of
// which version, where it goes to, and how long it says that it is. The rest is
// for gVisor's own parsers.
func parse(packet []byte) (protocol tcpip.NetworkProtocolNumber, to netip.Addr, length int, ok bool) {
	if len(packet) < header.IPv4MinimumSize {
		return 0, to, 0, false
	}
	switch packet[0] >> 4 {
	case 4: // RFC 791 section 3.1
		headerLen := int(packet[0]&0x0f) * 4
		total := int(binary.BigEndian.Uint16(packet[2:]))
		if headerLen < header.IPv4MinimumSize || total < headerLen || total > len(packet) {
			return 0, to, 0, false
		}
		return header.IPv4ProtocolNumber, netip.AddrFrom4([4]byte(packet[16:20])), total, true
	case 6: // RFC 8200 section 3
		if len(packet) < header.IPv6MinimumSize {
			return 0, to, 0, false
		}
		total := header.IPv6MinimumSize + int(binary.BigEndian.Uint16(packet[4:]))
		if total > len(packet) {
			return 0, to, 0, false
		}
		return header.IPv6ProtocolNumber, netip.AddrFrom16([16]byte(packet[24:40])), total, true
	}
	return 0, to, 0, false
}

// destination is where a packet with this IP header goes.
func destination(ip []byte) netip.Addr {
	if ip[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(ip[16:20]))
	}
	return netip.AddrFrom16([16]byte(ip[24:40]))
}

// source is where a packet with this IP header comes from.
func source(ip []byte) netip.Addr {
	if ip[0]>>4 == 4 {
		return netip.AddrFrom4([4]byte(ip[12:16]))
	}
	return netip.AddrFrom16([16]byte(ip[8:24]))
}

func toAddress(a netip.Addr) tcpip.Address {
	switch a = a.Unmap(); {
	case a.Is4():
		return tcpip.AddrFrom4(a.As4())
	case a.Is6():
		return tcpip.AddrFrom16(a.As16())
	}
	return tcpip.Address{}
}

func fromAddress(a tcpip.Address) netip.Addr {
	addr, _ := netip.AddrFromSlice(a.AsSlice())
	return addr.Unmap()
}

func fromFull(f tcpip.FullAddress) netip.AddrPort {
	return netip.AddrPortFrom(fromAddress(f.Addr), f.Port)
}
