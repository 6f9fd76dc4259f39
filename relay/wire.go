package relay

import (
	"encoding/binary"
	"errors"
	"fmt"

	"nexd/key"
)

// ProtocolVersion is the version of the frames, in the second byte of those of the admission.
const ProtocolVersion = 1

// FrameType is the first byte of a frame. All are 0xC0 or above, so that a
// socket shared with WireGuard and STUN can be sorted by it.
type FrameType byte

// The frames; the tables are in docs/relay.md.
const (
	FrameHello     FrameType = 0xC0 + iota // client → relay: asks for a cookie
	FrameChallenge                         // relay → client: the cookie
	FrameAuth                              // client → relay: cookie, credential, proof
	FrameWelcome                           // relay → client: admitted, proved
	FrameRefuse                            // relay → client: not admitted, and why
	FramePing                              // client → relay
	FramePong                              // relay → client
	FrameOpen                              // client → relay: this channel is that peer
	FrameOpened                            // relay → client: agreed
	FrameNotice                            // relay → client: a peer is not here, or is here now
	FrameBye                               // both: the session ends

	FrameData    FrameType = 0xD0 // both: a packet on a channel
	FrameDataKey FrameType = 0xD1 // both: a packet with the peer's key
)

// firstFrame is the lowest first byte of a frame.
const firstFrame = 0xC0

// Sizes in bytes.
const (
	headerSize  = 8
	keyedHeader = headerSize + key.Size

	helloSize     = 64 // padded: not below the challenge
	challengeSize = 32
	authFixed     = 48 // before the credential
	authSize      = authFixed + credentialSize + macSize
	welcomeSize   = 52
	refuseSize    = 36
	pingSize      = 40 // padded: not below the challenge
	pongSize      = 16
	openSize      = keyedHeader
	noticeSize    = 44
	byeSize       = 32

	nonceSize  = 8
	cookieSize = 20
	macSize    = 16

	// MaxPacket is the longest packet that is carried.
	MaxPacket = 9216
	// MaxFrame is the longest frame.
	MaxFrame = keyedHeader + MaxPacket
	// minCarrier is the shortest data frame a relay answers with a challenge:
	// no answer to an unproved address is longer than its cause.
	minCarrier = challengeSize

	// MaxChannels is the highest channel number.
	MaxChannels = 4096
)

var (
	errShort   = errors.New("frame of a wrong length")
	errVersion = errors.New("frame of another version")
	errKey     = errors.New("frame with no key")
)

// header is the start of every frame of a session.
type header struct {
	Type    FrameType
	Channel uint32 // 24 bits; 0: none
	Tag     uint32 // the receiver chose it: who cannot see the packets cannot guess it
}

func appendHeader(b []byte, h header) []byte {
	b = append(b, byte(h.Type), byte(h.Channel>>16), byte(h.Channel>>8), byte(h.Channel))
	return binary.BigEndian.AppendUint32(b, h.Tag)
}

// putHeader writes h over the first bytes of frame: how a relay forwards.
func putHeader(frame []byte, h header) {
	_ = frame[headerSize-1]
	binary.BigEndian.PutUint32(frame, uint32(h.Type)<<24|h.Channel&0xFFFFFF)
	binary.BigEndian.PutUint32(frame[4:], h.Tag)
}

// parseHeader reads the first eight bytes; ok says whether there were so many
// and whether the first is a frame's.
func parseHeader(frame []byte) (h header, ok bool) {
	if len(frame) < headerSize || frame[0] < firstFrame {
		return header{}, false
	}
	word := binary.BigEndian.Uint32(frame)
	return header{FrameType(word >> 24), word & 0xFFFFFF, binary.BigEndian.Uint32(frame[4:])}, true
}

// parseKeyed reads the key after the header of FrameDataKey, FrameOpen,
// FrameOpened; rest is what follows.
func parseKeyed(frame []byte) (peer key.Public, rest []byte, err error) {
	if len(frame) < keyedHeader {
		return key.Public{}, nil, errShort
	}
	peer, err = key.PublicFromBytes(frame[headerSize:keyedHeader])
	if err != nil {
		return key.Public{}, nil, errKey
	}
	return peer, frame[keyedHeader:], nil
}

func appendKeyed(b []byte, h header, peer key.Public) []byte {
	return appendKey(appendHeader(b, h), peer)
}

// String returns the word for logs.
func (t FrameType) String() string {
	switch t {
	case FrameHello:
		return "hello"
	case FrameChallenge:
		return "challenge"
	case FrameAuth:
		return "auth"
	case FrameWelcome:
		return "welcome"
	case FrameRefuse:
		return "refuse"
	case FramePing:
		return "ping"
	case FramePong:
		return "pong"
	case FrameOpen:
		return "open"
	case FrameOpened:
		return "opened"
	case FrameNotice:
		return "notice"
	case FrameBye:
		return "bye"
	case FrameData:
		return "data"
	case FrameDataKey:
		return "data-key"
	}
	return fmt.Sprintf("frame(%#x)", byte(t))
}
