package relay

import (
	"encoding/binary"
	"time"
)

type (
	nonce  [nonceSize]byte
	cookie [cookieSize]byte
	mac    [macSize]byte
)

// appendHello appends the padded question for a cookie.
func appendHello(b []byte, n nonce) []byte {
	b = append(b, byte(FrameHello), ProtocolVersion, 0, 0)
	b = append(b, n[:]...)
	return append(b, make([]byte, helloSize-4-nonceSize)...)
}

func parseHello(p []byte) (n nonce, err error) {
	if len(p) < helloSize {
		return n, errShort
	}
	if p[1] != ProtocolVersion {
		return n, errVersion
	}
	copy(n[:], p[4:])
	return n, nil
}

// challenge answers a hello, or a frame from an address that has no session.
type challenge struct {
	// Echo is the hello's nonce, or the first eight bytes of the other frame,
	// with the tag only the session's two ends know.
	Echo   nonce
	Cookie cookie
}

func (c challenge) appendTo(b []byte) []byte {
	b = append(b, byte(FrameChallenge), ProtocolVersion, 0, 0)
	b = append(b, c.Echo[:]...)
	return append(b, c.Cookie[:]...)
}

func parseChallenge(p []byte) (c challenge, err error) {
	if len(p) != challengeSize {
		return c, errShort
	}
	if p[1] != ProtocolVersion {
		return c, errVersion
	}
	copy(c.Echo[:], p[4:])
	copy(c.Cookie[:], p[12:])
	return c, nil
}

// auth asks for admission, or for an admitted session to be moved or renewed.
type auth struct {
	Nonce      nonce
	Cookie     cookie
	Epoch      uint64 // grows with each auth of a device
	Tag        uint32 // what the relay must write into frames to the client
	Resume     uint32 // the tag of the session to go on with; 0: a new one
	Credential []byte // credentialSize bytes, not copied
	MAC        mac
}

// appendTo appends all but the MAC, which covers what is appended here.
func (a auth) appendTo(b []byte) []byte {
	b = append(b, byte(FrameAuth), ProtocolVersion)
	b = binary.BigEndian.AppendUint16(b, uint16(len(a.Credential)))
	b = append(b, a.Nonce[:]...)
	b = append(b, a.Cookie[:]...)
	b = binary.BigEndian.AppendUint64(b, a.Epoch)
	b = binary.BigEndian.AppendUint32(b, a.Tag)
	b = binary.BigEndian.AppendUint32(b, a.Resume)
	return append(b, a.Credential...)
}

func parseAuth(p []byte) (a auth, err error) {
	if len(p) != authSize || int(binary.BigEndian.Uint16(p[2:])) != credentialSize {
		return a, errShort
	}
	if p[1] != ProtocolVersion {
		return a, errVersion
	}
	copy(a.Nonce[:], p[4:])
	copy(a.Cookie[:], p[12:])
	a.Epoch = binary.BigEndian.Uint64(p[32:])
	a.Tag = binary.BigEndian.Uint32(p[40:])
	a.Resume = binary.BigEndian.Uint32(p[44:])
	a.Credential = p[authFixed : authFixed+credentialSize : authFixed+credentialSize]
	copy(a.MAC[:], p[authFixed+credentialSize:])
	return a, nil
}

// authMACed returns the part of an auth frame its MAC covers. p has passed parseAuth.
func authMACed(p []byte) []byte { return p[:authSize-macSize] }

// welcome ends an admission.
type welcome struct {
	Resumed  bool // the session goes on: its channels are known
	Nonce    nonce
	Tag      uint32 // what the client must write into its frames
	Epoch    uint64
	Lifetime time.Duration // until the session ends, whole seconds
	Channels uint32        // highest channel number
	MAC      mac
}

const flagResumed = 1

// appendTo appends all but the MAC.
func (w welcome) appendTo(b []byte) []byte {
	flags := byte(0)
	if w.Resumed {
		flags = flagResumed
	}
	b = append(b, byte(FrameWelcome), ProtocolVersion, flags, 0)
	b = append(b, w.Nonce[:]...)
	b = binary.BigEndian.AppendUint32(b, w.Tag)
	b = binary.BigEndian.AppendUint64(b, w.Epoch)
	b = binary.BigEndian.AppendUint32(b, uint32(w.Lifetime/time.Second))
	b = binary.BigEndian.AppendUint32(b, w.Channels)
	return append(b, 0, 0, 0, 0)
}

func parseWelcome(p []byte) (w welcome, err error) {
	if len(p) != welcomeSize {
		return w, errShort
	}
	if p[1] != ProtocolVersion {
		return w, errVersion
	}
	w.Resumed = p[2]&flagResumed != 0
	copy(w.Nonce[:], p[4:])
	w.Tag = binary.BigEndian.Uint32(p[12:])
	w.Epoch = binary.BigEndian.Uint64(p[16:])
	w.Lifetime = time.Duration(binary.BigEndian.Uint32(p[24:])) * time.Second
	w.Channels = binary.BigEndian.Uint32(p[28:])
	copy(w.MAC[:], p[36:])
	return w, nil
}

// refusal says why an auth was not accepted.
type refusal struct {
	Reason Refusal
	Nonce  nonce
	Value  uint64 // RefusedStale: the highest epoch seen
	// MAC is there (not zero) when the relay could make it: for stale, full, draining.
	MAC mac
}

// appendTo appends all but the MAC.
func (r refusal) appendTo(b []byte) []byte {
	b = append(b, byte(FrameRefuse), ProtocolVersion, byte(r.Reason), 0)
	b = append(b, r.Nonce[:]...)
	return binary.BigEndian.AppendUint64(b, r.Value)
}

func parseRefusal(p []byte) (r refusal, err error) {
	if len(p) != refuseSize {
		return r, errShort
	}
	r.Reason = Refusal(p[2])
	copy(r.Nonce[:], p[4:])
	r.Value = binary.BigEndian.Uint64(p[12:])
	copy(r.MAC[:], p[20:])
	return r, nil
}
