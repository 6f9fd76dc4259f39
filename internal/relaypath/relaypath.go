// Package relaypath writes the path through a relay as an address, so that
// whatever holds the addresses a peer may be reached at holds relays as well.
//
// Relay number n of this process is port n of 100::1, out of the block that is
// for discarding (RFC 6666): no network leads there. Such an address never
// leaves the process; what peers and people are told is the relay's key or name.
//
// The package also has the first byte that tells a sealed offer from the other
// packets that travel through a relay: WireGuard's begin with 1 to 4 and three
// zero bytes, STUN's with 0 to 3 and the magic cookie.
package relaypath

import "net/netip"

// Offer is the first byte of a packet that carries a sealed offer; the offer follows.
const Offer = 0x60

var discard = netip.AddrFrom16([16]byte{0: 0x01, 15: 0x01})

// Addr returns the address of relay n, or the zero value for 0, which is no relay.
func Addr(n uint16) netip.AddrPort {
	if n == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(discard, n)
}

// Number returns the relay an address stands for; 0: it is an ordinary address.
func Number(a netip.AddrPort) uint16 {
	if a.Addr() != discard {
		return 0
	}
	return a.Port()
}

// Is reports whether an address stands for a relay, or belongs to the block
// they are taken from: a peer that names one means nothing that can be reached.
func Is(a netip.Addr) bool { return block.Contains(a) }

var block = netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0x01}), 64)
