package stunwire

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/pion/stun/v3"
)

const (
	headerSize     = 20
	attrHeaderSize = 4
	cookie         = 0x2112A442

	// MaxMessage is the longest message read, in bytes: what fits any path
	// unfragmented (RFC 8489 section 6.1 gives 548 for IPv4).
	MaxMessage = 548
	// MaxPadded is the longest padded check, the only message that may be longer
	// than MaxMessage: a WireGuard packet with 8,920 bytes in it.
	MaxPadded = 8952
	// MinPadded is the shortest: an empty padding is one, too.
	MinPadded = checkSize + attrHeaderSize
	// MaxAttributes is the largest number of attributes of a message read.
	MaxAttributes = 16

	// attrSequence is our own attribute: epoch and sequence.
	attrSequence = stun.AttrType(0xFE4E)
	sequenceSize = 16
	// attrPadding is ours, too: zero bytes that make a check as long as another packet.
	attrPadding = stun.AttrType(0xFE4F)

	checkSize = 104 // of a check without padding
	paddingAt = 60  // where the padding stands: before the integrity

	// HintSize is the length of a check's USERNAME in bytes.
	HintSize = 8
)

// TxID is a transaction id, chosen at random for each request.
type TxID [stun.TransactionIDSize]byte

// NewTxID returns a fresh id from the system's random source.
func NewTxID() TxID { return stun.NewTransactionID() }

// Hint names a pair of devices and a direction to the receiver of a check, and
// nothing to anybody else.
type Hint [HintSize]byte

// Class of a message.
type Class uint8

// The classes that are read; indications are not.
const (
	_ Class = iota
	Request
	Success
	Error
)

// String returns the word for logs.
func (c Class) String() string {
	switch c {
	case Request:
		return "request"
	case Success:
		return "success"
	case Error:
		return "error"
	}
	return fmt.Sprintf("Class(%d)", uint8(c))
}

// Codes of error responses (RFC 8489 section 14.8).
const (
	CodeUnknownAttribute = int(stun.CodeUnknownAttribute)
	CodeStale            = int(stun.CodeStaleNonce)
)

// Errors of Parse. All mean that the packet is dropped.
var (
	errNotSTUN     = errors.New("not a binding message")
	errTooLong     = errors.New("message too long")
	errAttributes  = errors.New("too many attributes")
	errMalformed   = errors.New("malformed attribute")
	errFingerprint = errors.New("wrong fingerprint")
	errAfterMAC    = errors.New("attribute after the integrity")
)

// Message is one message read by [Parse]. It refers to the packet it was read
// from and is valid while those bytes are.
type Message struct {
	Class Class
	ID    TxID
	// Mapped is XOR-MAPPED-ADDRESS, or MAPPED-ADDRESS of an older server; invalid: absent.
	Mapped netip.AddrPort
	// Hint is a USERNAME of 8 bytes; HasHint says whether there was one.
	Hint    Hint
	HasHint bool
	// Priority is PRIORITY; 0: absent.
	Priority uint32
	// Epoch and Seq are against replay; HasSequence says whether they were there.
	Epoch, Seq  uint64
	HasSequence bool
	// Code is that of an error response; 0: absent.
	Code int
	// Unknown lists attributes that must be understood and are not, at most 8.
	Unknown []uint16
	// Fingerprint says that there was one; Parse has verified it.
	Fingerprint bool

	packet    []byte
	macOffset int // of the integrity attribute's header; 0: absent
}

// Is reports whether packet looks like STUN: the two zero bits, the cookie and a
// length that is the packet's own. It is the sorter of a socket that carries
// other protocols too.
func Is(packet []byte) bool {
	return len(packet) >= headerSize && packet[0] < 4 &&
		binary.BigEndian.Uint32(packet[4:]) == cookie &&
		int(binary.BigEndian.Uint16(packet[2:])) == len(packet)-headerSize &&
		len(packet)%4 == 0
}

// Parse reads a binding request or response of exactly the packet's length. It
// keeps packet but does not change it. A fingerprint, where there is one, must
// be right; integrity is left to [Message.Verify].
func Parse(packet []byte) (Message, error) {
	if !Is(packet) {
		return Message{}, errNotSTUN
	}
	if len(packet) > MaxMessage && !isPadded(packet) {
		return Message{}, errTooLong
	}
	raw := stun.Message{Raw: packet}
	if err := raw.Decode(); err != nil {
		return Message{}, errMalformed
	}
	if len(raw.Attributes) > MaxAttributes {
		return Message{}, errAttributes
	}
	m := Message{ID: raw.TransactionID, packet: packet}
	switch raw.Type {
	case stun.BindingRequest:
		m.Class = Request
	case stun.BindingSuccess:
		m.Class = Success
	case stun.BindingError:
		m.Class = Error
	default:
		return Message{}, errNotSTUN
	}
	return m, m.readAttributes(raw.Attributes)
}

// isPadded reports whether a packet has the outline of a padded check: all that
// is longer than other messages is one attribute, at its place.
func isPadded(packet []byte) bool {
	return len(packet) >= MinPadded && len(packet) <= MaxPadded && binary.BigEndian.Uint16(packet) == stun.BindingRequest.Value() &&
		binary.BigEndian.Uint16(packet[paddingAt:]) == uint16(attrPadding) &&
		int(binary.BigEndian.Uint16(packet[paddingAt+2:])) == len(packet)-MinPadded
}

// readAttributes takes the first of each kind; a later one of the same kind is
// ignored (RFC 8489 section 14).
func (m *Message) readAttributes(attrs []stun.RawAttribute) error {
	offset := headerSize
	for i, a := range attrs {
		if m.macOffset != 0 && a.Type != stun.AttrFingerprint {
			return errAfterMAC
		}
		if err := m.readAttribute(a, offset, i == len(attrs)-1); err != nil {
			return err
		}
		offset += attrHeaderSize + (len(a.Value)+3)&^3
	}
	return nil
}

func (m *Message) readAttribute(a stun.RawAttribute, offset int, last bool) error {
	v := a.Value
	switch a.Type {
	case stun.AttrUsername:
		if len(v) == HintSize && !m.HasHint {
			m.Hint, m.HasHint = Hint(v), true
		}
	case stun.AttrPriority:
		if len(v) != 4 {
			return errMalformed
		}
		if m.Priority == 0 {
			m.Priority = binary.BigEndian.Uint32(v)
		}
	case attrSequence:
		if len(v) != sequenceSize {
			return errMalformed
		}
		if !m.HasSequence {
			m.Epoch, m.Seq = binary.BigEndian.Uint64(v), binary.BigEndian.Uint64(v[8:])
			m.HasSequence = true
		}
	case stun.AttrXORMappedAddress:
		addr, ok := readAddress(v, &m.ID)
		if !ok {
			return errMalformed
		}
		m.Mapped = addr // before a MAPPED-ADDRESS, wherever it stands
	case stun.AttrMappedAddress:
		addr, ok := readAddress(v, nil)
		if !ok {
			return errMalformed
		}
		if !m.Mapped.IsValid() {
			m.Mapped = addr
		}
	case stun.AttrErrorCode:
		// Class 3 to 6 and number 0 to 99 (section 14.8).
		if len(v) < 4 || v[2]&7 < 3 || v[2]&7 > 6 || v[3] > 99 {
			return errMalformed
		}
		m.Code = int(v[2]&7)*100 + int(v[3])
	case stun.AttrMessageIntegritySHA256:
		if len(v) != macSize {
			return errMalformed // truncation is allowed by the RFC, not by us
		}
		m.macOffset = offset
	case stun.AttrFingerprint:
		if len(v) != 4 || !last {
			return errMalformed
		}
		if binary.BigEndian.Uint32(v) != stun.FingerprintValue(m.packet[:offset]) {
			return errFingerprint
		}
		m.Fingerprint = true
	default:
		if a.Type.Required() && !ignorable(a.Type) && len(m.Unknown) < maxUnknown {
			m.Unknown = append(m.Unknown, uint16(a.Type))
		}
	}
	return nil
}

// maxUnknown bounds the list an error response carries.
const maxUnknown = 8

// ignorable are attributes of RFC 8489 that a binding without credentials may carry.
func ignorable(t stun.AttrType) bool {
	switch t {
	case stun.AttrMessageIntegrity, stun.AttrUnknownAttributes, stun.AttrRealm, stun.AttrNonce,
		stun.AttrPasswordAlgorithm, stun.AttrUserhash:
		return true
	}
	return false
}
