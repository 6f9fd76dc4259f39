package stunwire

import (
	"encoding/binary"
	"net/netip"

	"github.com/pion/stun/v3"
)

// The Append functions append one message to b and return the longer slice, as
// append does; they neither fail nor keep b.

// AppendRequest appends a plain binding request with a fingerprint (28 bytes).
func AppendRequest(b []byte, id TxID) []byte {
	at := len(b)
	b = appendHeader(b, stun.BindingRequest, id)
	return appendFingerprint(b, at)
}

// AppendSuccess appends the answer to a plain request. mapped must be valid.
// The fingerprint is for requests that had one (RFC 8489 section 7).
func AppendSuccess(b []byte, id TxID, mapped netip.AddrPort, fingerprint bool) []byte {
	at := len(b)
	b = appendHeader(b, stun.BindingSuccess, id)
	b = appendXORAddress(b, mapped, id)
	return finish(b, at, fingerprint)
}

// AppendError appends an error response with an empty reason phrase and, when
// there are any, the unknown attributes.
func AppendError(b []byte, id TxID, code int, unknown []uint16, fingerprint bool) []byte {
	at := len(b)
	b = appendHeader(b, stun.BindingError, id)
	b = appendErrorCode(b, code)
	if len(unknown) > 0 {
		unknown = unknown[:min(len(unknown), maxUnknown)]
		b = appendAttrHeader(b, stun.AttrUnknownAttributes, 2*len(unknown))
		for _, t := range unknown {
			b = binary.BigEndian.AppendUint16(b, t)
		}
		if len(unknown)%2 == 1 {
			b = append(b, 0, 0)
		}
	}
	return finish(b, at, fingerprint)
}

func appendErrorCode(b []byte, code int) []byte {
	b = appendAttrHeader(b, stun.AttrErrorCode, 4)
	return append(b, 0, 0, byte(code/100), byte(code%100))
}

// Check is the content of a connectivity check.
type Check struct {
	ID         TxID
	Hint       Hint
	Priority   uint32
	Epoch, Seq uint64
}

// AppendCheck appends a connectivity check proved with the pair's key.
func AppendCheck(b []byte, c Check, key *[KeySize]byte) []byte {
	return appendCheck(b, c, -1, key)
}

// AppendPaddedCheck appends a connectivity check that is size bytes long: a
// multiple of 4, from MinPadded to MaxPadded; another size becomes the next one
// below that is. The padding is under the integrity.
func AppendPaddedCheck(b []byte, c Check, size int, key *[KeySize]byte) []byte {
	return appendCheck(b, c, min(max(size, MinPadded), MaxPadded)&^3-MinPadded, key)
}

func appendCheck(b []byte, c Check, padding int, key *[KeySize]byte) []byte {
	at := len(b)
	b = appendHeader(b, stun.BindingRequest, c.ID)
	b = appendAttrHeader(b, stun.AttrUsername, HintSize)
	b = append(b, c.Hint[:]...)
	b = appendAttrHeader(b, stun.AttrPriority, 4)
	b = binary.BigEndian.AppendUint32(b, c.Priority)
	b = appendSequence(b, c.Epoch, c.Seq)
	if padding >= 0 {
		b = appendAttrHeader(b, attrPadding, padding)
		b = append(b, make([]byte, padding)...)
	}
	b = appendIntegrity(b, at, key[:])
	return appendFingerprint(b, at)
}

// AppendCheckReply appends the answer to a verified check that came from mapped.
func AppendCheckReply(b []byte, id TxID, mapped netip.AddrPort, key *[KeySize]byte) []byte {
	at := len(b)
	b = appendHeader(b, stun.BindingSuccess, id)
	b = appendXORAddress(b, mapped, id)
	b = appendIntegrity(b, at, key[:])
	return appendFingerprint(b, at)
}

// AppendCheckStale appends the answer to a check that verified but whose epoch
// is older than one seen: the sender then takes a newer one.
func AppendCheckStale(b []byte, id TxID, epoch uint64, key *[KeySize]byte) []byte {
	at := len(b)
	b = appendHeader(b, stun.BindingError, id)
	b = appendErrorCode(b, CodeStale)
	b = appendSequence(b, epoch, 0)
	b = appendIntegrity(b, at, key[:])
	return appendFingerprint(b, at)
}

func appendSequence(b []byte, epoch, seq uint64) []byte {
	b = appendAttrHeader(b, attrSequence, sequenceSize)
	b = binary.BigEndian.AppendUint64(b, epoch)
	return binary.BigEndian.AppendUint64(b, seq)
}

func appendHeader(b []byte, t stun.MessageType, id TxID) []byte {
	b = binary.BigEndian.AppendUint16(b, t.Value())
	b = append(b, 0, 0) // length: set by setLength
	b = binary.BigEndian.AppendUint32(b, cookie)
	return append(b, id[:]...)
}

func appendAttrHeader(b []byte, t stun.AttrType, n int) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(t))
	return binary.BigEndian.AppendUint16(b, uint16(n))
}

// setLength writes the length of the message that begins at b[at:], as if extra
// more bytes were there.
func setLength(b []byte, at, extra int) {
	binary.BigEndian.PutUint16(b[at+2:], uint16(len(b)-at-headerSize+extra))
}

func finish(b []byte, at int, fingerprint bool) []byte {
	if fingerprint {
		return appendFingerprint(b, at)
	}
	setLength(b, at, 0)
	return b
}

// appendFingerprint ends a message (RFC 8489 section 14.7).
func appendFingerprint(b []byte, at int) []byte {
	setLength(b, at, attrHeaderSize+4)
	crc := stun.FingerprintValue(b[at:])
	b = appendAttrHeader(b, stun.AttrFingerprint, 4)
	return binary.BigEndian.AppendUint32(b, crc)
}
