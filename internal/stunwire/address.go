package stunwire

import (
	"encoding/binary"
	"net/netip"

	"github.com/pion/stun/v3"
)

const (
	familyIPv4 = 1
	familyIPv6 = 2
)

// readAddress reads MAPPED-ADDRESS, or XOR-MAPPED-ADDRESS when id is given
// (RFC 8489 sections 14.1 and 14.2).
func readAddress(v []byte, id *TxID) (netip.AddrPort, bool) {
	if len(v) < 4 {
		return netip.AddrPort{}, false
	}
	port := binary.BigEndian.Uint16(v[2:])
	var raw [16]byte
	n := copy(raw[:], v[4:])
	if id != nil {
		port ^= cookie >> 16
		mask := xorMask(*id)
		for i := range raw {
			raw[i] ^= mask[i]
		}
	}
	switch {
	case v[1] == familyIPv4 && len(v) == 8:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(raw[:4])), port), true
	case v[1] == familyIPv6 && len(v) == 20 && n == 16:
		return netip.AddrPortFrom(netip.AddrFrom16(raw).Unmap(), port), true
	}
	return netip.AddrPort{}, false
}

// appendXORAddress appends XOR-MAPPED-ADDRESS. An IPv4-mapped address is written as IPv4.
func appendXORAddress(b []byte, addr netip.AddrPort, id TxID) []byte {
	ip := addr.Addr().Unmap()
	raw := ip.As16()
	value, family := raw[:], byte(familyIPv6)
	if ip.Is4() {
		value, family = raw[12:], familyIPv4
	}
	mask := xorMask(id)
	for i := range value {
		value[i] ^= mask[i]
	}
	b = appendAttrHeader(b, stun.AttrXORMappedAddress, 4+len(value))
	b = append(b, 0, family)
	b = binary.BigEndian.AppendUint16(b, addr.Port()^cookie>>16)
	return append(b, value...)
}

func xorMask(id TxID) (mask [16]byte) {
	binary.BigEndian.PutUint32(mask[:], cookie)
	copy(mask[4:], id[:])
	return mask
}
