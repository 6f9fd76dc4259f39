package bind

import "encoding/binary"

// kind says who a received datagram is for.
type kind uint8

const (
	kindGarbage kind = iota + 1
	kindWireGuard
	kindSTUN
	kindRelay
)

const (
	typeInitiation = 1 // WireGuard message types
	typeResponse   = 2
	typeCookie     = 3
	typeTransport  = 4

	minWireGuard   = 32  // the shortest message: an empty transport packet
	sizeInitiation = 148 // the longest handshake message
	sizeResponse   = 92
	sizeCookie     = 64

	stunHeader = 20
	stunCookie = 0x2112A442

	firstRelay = 0xC0
)

// classify tells the protocols of the socket apart; see the table in doc.go.
// WireGuard and STUN cannot be mistaken for each other: three zero bytes after
// the first leave STUN a length of zero, that is 20 bytes in all.
func classify(p []byte) kind {
	if len(p) < 1 {
		return kindGarbage
	}
	if p[0] >= firstRelay {
		return kindRelay
	}
	if len(p) >= minWireGuard {
		if t := binary.LittleEndian.Uint32(p); t >= typeInitiation && t <= typeTransport {
			return kindWireGuard
		}
	}
	if len(p) >= stunHeader && p[0] < 4 &&
		binary.BigEndian.Uint32(p[4:]) == stunCookie &&
		int(binary.BigEndian.Uint16(p[2:])) == len(p)-stunHeader {
		return kindSTUN
	}
	return kindGarbage
}

// isHandshake reports whether p is a handshake initiation or response, which
// are worth keeping while a peer has no path: a lost one costs five seconds.
func isHandshake(p []byte) bool {
	if len(p) < minWireGuard || len(p) > sizeInitiation {
		return false
	}
	t := binary.LittleEndian.Uint32(p)
	return t == typeInitiation || t == typeResponse
}
