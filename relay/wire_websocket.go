package relay

import (
	"encoding/binary"
	"errors"
)

// WebSocket's own frames (RFC 6455 section 5.2), around our messages. The
// handshake is the library's; the frames are ours because a relay's work over
// TLS is mostly copies and records, see docs/adr/0007.
//
//	byte 0    FIN, three reserved bits (0), opcode
//	byte 1    MASK, length; 126: the length in 2 bytes follows, 127: in 8
//	          masking key, 4 bytes, if MASK
//	          payload
const (
	wsContinuation = 0x0
	wsText         = 0x1
	wsBinary       = 0x2
	wsClose        = 0x8
	wsPing         = 0x9
	wsPong         = 0xA

	wsControl    = 0x8 // bit of the opcodes that are not data
	maxWSControl = 125 // bytes of payload
	maxWSHeader  = 14
	// wsHeadroom is what a message of up to 64 KiB takes before its payload.
	wsHeadroom = 8
)

// The codes of a closing frame (RFC 6455 section 7.4.1).
const (
	wsProtocol     = 1002
	wsUnsupported  = 1003
	wsMessageLarge = 1009
)

// wsHeader is the start of a frame.
type wsHeader struct {
	final  bool
	opcode byte
	masked bool
	key    [4]byte
	size   int // of the header
	length int // of the payload
}

// wsError is a frame that ends the connection, with the code that says why.
type wsError struct {
	code uint16
	what string
}

func (e *wsError) Error() string { return "websocket: " + e.what }

var (
	errWSReserved   = &wsError{wsProtocol, "reserved bits or opcode"}
	errWSMask       = &wsError{wsProtocol, "masked the wrong way"}
	errWSControl    = &wsError{wsProtocol, "a control frame that is long or in parts"}
	errWSParts      = &wsError{wsProtocol, "parts of messages out of order"}
	errWSLarge      = &wsError{wsMessageLarge, "message too long"}
	errWSText       = &wsError{wsUnsupported, "a text message"}
	errWSIncomplete = errors.New("more bytes wanted")
)

// parseWSHeader reads a header; errWSIncomplete: there are too few bytes.
// masked says what the other side must do.
func parseWSHeader(b []byte, masked bool) (h wsHeader, err error) {
	if len(b) < 2 {
		return h, errWSIncomplete
	}
	h.final, h.opcode, h.masked = b[0]&0x80 != 0, b[0]&0x0F, b[1]&0x80 != 0
	if b[0]&0x70 != 0 || h.opcode > wsPong || h.opcode > wsBinary && h.opcode < wsClose {
		return h, errWSReserved
	}
	if h.masked != masked {
		return h, errWSMask
	}
	length := uint64(b[1] & 0x7F)
	if h.opcode&wsControl != 0 && (length > maxWSControl || !h.final) {
		return h, errWSControl
	}
	h.size = 2
	switch {
	case length == 126 && len(b) >= 4:
		length, h.size = uint64(binary.BigEndian.Uint16(b[2:])), 4
	case length == 127 && len(b) >= 10:
		length, h.size = binary.BigEndian.Uint64(b[2:]), 10
	case length >= 126:
		return h, errWSIncomplete
	}
	if length > maxMessage {
		return h, errWSLarge
	}
	h.length = int(length)
	if masked {
		if len(b) < h.size+4 {
			return h, errWSIncomplete
		}
		copy(h.key[:], b[h.size:])
		h.size += 4
	}
	return h, nil
}

// putWSHeader writes the header of a frame before its payload, which begins at
// b[at:], and returns where the header begins. at is at least the header's size.
func putWSHeader(b []byte, at int, opcode byte, masked bool, key [4]byte) (start int) {
	length := len(b) - at
	start = at
	second := byte(0)
	if masked {
		start -= 4
		copy(b[start:], key[:])
		second = 0x80
	}
	switch {
	case length <= maxWSControl:
		second |= byte(length)
	case length <= 0xFFFF:
		start -= 2
		binary.BigEndian.PutUint16(b[start:], uint16(length))
		second |= 126
	default:
		start -= 8
		binary.BigEndian.PutUint64(b[start:], uint64(length))
		second |= 127
	}
	start -= 2
	b[start], b[start+1] = 0x80|opcode, second
	return start
}

// mask applies a masking key (RFC 6455 section 5.3), in place; again, it undoes it.
func mask(b []byte, key [4]byte) {
	word := uint64(binary.LittleEndian.Uint32(key[:]))
	word |= word << 32
	for len(b) >= 64 {
		c := b[:64:64]
		binary.LittleEndian.PutUint64(c, binary.LittleEndian.Uint64(c)^word)
		binary.LittleEndian.PutUint64(c[8:], binary.LittleEndian.Uint64(c[8:])^word)
		binary.LittleEndian.PutUint64(c[16:], binary.LittleEndian.Uint64(c[16:])^word)
		binary.LittleEndian.PutUint64(c[24:], binary.LittleEndian.Uint64(c[24:])^word)
		binary.LittleEndian.PutUint64(c[32:], binary.LittleEndian.Uint64(c[32:])^word)
		binary.LittleEndian.PutUint64(c[40:], binary.LittleEndian.Uint64(c[40:])^word)
		binary.LittleEndian.PutUint64(c[48:], binary.LittleEndian.Uint64(c[48:])^word)
		binary.LittleEndian.PutUint64(c[56:], binary.LittleEndian.Uint64(c[56:])^word)
		b = b[64:]
	}
	for len(b) >= 8 {
		binary.LittleEndian.PutUint64(b, binary.LittleEndian.Uint64(b)^word)
		b = b[8:]
	}
	for i := range b {
		b[i] ^= key[i&3]
	}
}
