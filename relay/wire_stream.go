package relay

import "encoding/binary"

// Over WebSocket a binary message holds one or more frames, each after its
// length in two bytes.

const (
	lengthSize = 2
	// maxMessage bounds a WebSocket message, in bytes.
	maxMessage = 64 << 10
)

// appendFramed appends a frame made of two parts, head and body, with its length.
func appendFramed(b, head, body []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(len(head)+len(body)))
	return append(append(b, head...), body...)
}

// nextFramed cuts the first frame off a message; rest is empty after the last.
func nextFramed(message []byte) (frame, rest []byte, err error) {
	if len(message) < lengthSize {
		return nil, nil, errShort
	}
	n := int(binary.BigEndian.Uint16(message))
	if n < headerSize || n > MaxFrame || len(message)-lengthSize < n {
		return nil, nil, errShort
	}
	return message[lengthSize : lengthSize+n : lengthSize+n], message[lengthSize+n:], nil
}
