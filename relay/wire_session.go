package relay

import (
	"encoding/binary"
	"fmt"

	"nexd/key"
)

func appendKey(b []byte, k key.Public) []byte {
	return append(b, k.Bytes()...)
}

// appendPing appends a ping with an opaque stamp that comes back in the pong.
func appendPing(b []byte, tag uint32, stamp uint64) []byte {
	b = appendHeader(b, header{Type: FramePing, Tag: tag})
	b = binary.BigEndian.AppendUint64(b, stamp)
	return append(b, make([]byte, pingSize-headerSize-8)...)
}

func appendPong(b []byte, tag uint32, stamp uint64) []byte {
	b = appendHeader(b, header{Type: FramePong, Tag: tag})
	return binary.BigEndian.AppendUint64(b, stamp)
}

// parseStamp reads the stamp of a ping or a pong.
func parseStamp(p []byte) (uint64, error) {
	if len(p) < pongSize {
		return 0, errShort
	}
	return binary.BigEndian.Uint64(p[headerSize:]), nil
}

// Presence is what a relay says of a peer.
type Presence uint8

// The zero value is invalid.
const (
	// PeerGone: no session of the peer at this relay; what was sent to it is lost.
	PeerGone Presence = 1 + iota
	// PeerHere: a peer lately asked for has come.
	PeerHere
)

// String returns the word for logs.
func (p Presence) String() string {
	switch p {
	case PeerGone:
		return "gone"
	case PeerHere:
		return "here"
	}
	return fmt.Sprintf("presence(%d)", uint8(p))
}

func appendNotice(b []byte, tag uint32, what Presence, peer key.Public) []byte {
	b = appendHeader(b, header{Type: FrameNotice, Tag: tag})
	b = append(b, byte(what), 0, 0, 0)
	return appendKey(b, peer)
}

func parseNotice(p []byte) (what Presence, peer key.Public, err error) {
	if len(p) != noticeSize {
		return 0, peer, errShort
	}
	peer, err = key.PublicFromBytes(p[headerSize+4:])
	if err != nil {
		return 0, key.Public{}, errKey
	}
	return Presence(p[headerSize]), peer, nil
}

// Farewell is why a session ends.
type Farewell uint8

// The zero value is invalid.
const (
	ByeLeaving  Farewell = 1 + iota // the client stops
	ByeDraining                     // the relay is about to stop: use another
	ByeClosing                      // the relay stops now
	ByeExpired                      // the credential ran out
	ByeReplaced                     // another session of this key was proved
	ByeIdle                         // nothing was heard for too long
	ByeDenied                       // the relay's operator or its limits ended it
)

// String returns the word for logs.
func (f Farewell) String() string {
	switch f {
	case ByeLeaving:
		return "leaving"
	case ByeDraining:
		return "relay draining"
	case ByeClosing:
		return "relay closing"
	case ByeExpired:
		return "credential expired"
	case ByeReplaced:
		return "replaced by another session of this device"
	case ByeIdle:
		return "idle"
	case ByeDenied:
		return "denied"
	}
	return fmt.Sprintf("farewell(%d)", uint8(f))
}

// bye is the last frame of a session, in either direction.
type bye struct {
	Reason Farewell
	MAC    mac
}

// appendBye appends all but the MAC.
func appendBye(b []byte, tag uint32, why Farewell) []byte {
	b = appendHeader(b, header{Type: FrameBye, Tag: tag})
	return append(b, byte(why), 0, 0, 0, 0, 0, 0, 0)
}

func parseBye(p []byte) (y bye, err error) {
	if len(p) != byeSize {
		return y, errShort
	}
	y.Reason = Farewell(p[headerSize])
	copy(y.MAC[:], p[byeSize-macSize:])
	return y, nil
}

// Refusal is why a relay admits nobody by an auth frame.
type Refusal uint8

// The zero value is invalid.
const (
	RefusedCredential Refusal = 1 + iota // not signed by a service this relay knows, or not for this device
	RefusedExpired                       // the credential has run out (or a clock is wrong)
	RefusedProof                         // the proof is wrong: not the device's key, or another relay's
	RefusedStale                         // an epoch not above one seen; Value has the latter
	RefusedFull                          // no more sessions here, or in this network
	RefusedDraining                      // the relay is about to stop
	RefusedFuture                        // the credential is valid for implausibly long (a clock is wrong)
)

// String returns the words for logs and for people.
func (r Refusal) String() string {
	switch r {
	case RefusedCredential:
		return "the credential is not of a service this relay serves"
	case RefusedExpired:
		return "the credential has expired (check both clocks)"
	case RefusedProof:
		return "the proof of the device's key is wrong (is the relay's key the right one?)"
	case RefusedStale:
		return "an older admission than one seen"
	case RefusedFull:
		return "the relay is full"
	case RefusedDraining:
		return "the relay is about to stop"
	case RefusedFuture:
		return "the credential is valid for too long (check both clocks)"
	}
	return fmt.Sprintf("refusal(%d)", uint8(r))
}
