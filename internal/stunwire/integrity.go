package stunwire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"

	"github.com/pion/stun/v3"
)

// KeySize is the length of a pair's key in bytes.
const KeySize = 32

const macSize = sha256.Size

// HasIntegrity reports whether the message carries MESSAGE-INTEGRITY-SHA256.
func (m *Message) HasIntegrity() bool { return m.macOffset != 0 }

// Verify reports whether the message's MESSAGE-INTEGRITY-SHA256 was made with
// key. Without one it is false. The comparison takes constant time.
func (m *Message) Verify(key *[KeySize]byte) bool { return m.verify(key[:]) }

func (m *Message) verify(key []byte) bool {
	if m.macOffset == 0 {
		return false
	}
	// The MAC covers the header with a length that ends after the integrity
	// attribute, and all attributes before it (RFC 8489 section 14.6).
	var header [headerSize]byte
	copy(header[:], m.packet)
	end := m.macOffset + attrHeaderSize + macSize
	binary.BigEndian.PutUint16(header[2:], uint16(end-headerSize))
	mac := hmac.New(sha256.New, key)
	mac.Write(header[:])
	mac.Write(m.packet[headerSize:m.macOffset])
	return hmac.Equal(mac.Sum(nil), m.packet[m.macOffset+attrHeaderSize:end])
}

// appendIntegrity appends MESSAGE-INTEGRITY-SHA256 over the message that begins at b[at:].
func appendIntegrity(b []byte, at int, key []byte) []byte {
	setLength(b, at, attrHeaderSize+macSize)
	mac := hmac.New(sha256.New, key)
	mac.Write(b[at:])
	b = appendAttrHeader(b, stun.AttrMessageIntegritySHA256, macSize)
	return mac.Sum(b)
}
