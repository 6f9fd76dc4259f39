package netstack

import (
	"encoding/binary"
	"net/netip"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// parse reads as much of an IP packet as the link needs: that it is whole, of
// which version, and where it goes to. The rest is for gVisor's own parsers.
func parse(packet []byte) (protocol tcpip.NetworkProtocolNumber, to netip.Addr, ok bool) {
	if len(packet) < header.IPv4MinimumSize {
		return 0, to, false
	}
	switch packet[0] >> 4 {
	case 4: // RFC 791 section 3.1
		headerLen := int(packet[0]&0x0f) * 4
		total := int(binary.BigEndian.Uint16(packet[2:]))
		if headerLen < header.IPv4MinimumSize || total < headerLen || total > len(packet) {
			return 0, to, false
		}
		return header.IPv4ProtocolNumber, netip.AddrFrom4([4]byte(packet[16:20])), true
	case 6: // RFC 8200 section 3
		if len(packet) < header.IPv6MinimumSize {
			return 0, to, false
		}
		if header.IPv6MinimumSize+int(binary.BigEndian.Uint16(packet[4:])) > len(packet) {
			return 0, to, false
		}
		return header.IPv6ProtocolNumber, netip.AddrFrom16([16]byte(packet[24:40])), true
	}
	return 0, to, false
}

// bufferOf copies a packet into a buffer of gVisor's, sized to the data.
func bufferOf(packet []byte) buffer.Buffer {
	return buffer.MakeWithView(buffer.NewViewWithData(packet))
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
