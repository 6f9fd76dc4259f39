package relay

import (
	"crypto/hmac"
	"crypto/sha256"
)

// pairLabel keeps the secret of a device and a relay apart from other uses of their keys.
const pairLabel = "nexd relay v1"

// A pair's secret proves both sides to each other. The uses of it are kept
// apart by what the MAC begins with.
const (
	macAuth    = "auth\x00"
	macWelcome = "welcome\x00"
	macRefuse  = "refuse\x00"
	macByeUp   = "bye to relay\x00"
	macByeDown = "bye to client\x00"
)

// prove returns the first 16 bytes of HMAC-SHA256 over the parts.
func prove(secret *[32]byte, use string, parts ...[]byte) mac {
	h := hmac.New(sha256.New, secret[:])
	h.Write([]byte(use))
	for _, p := range parts {
		h.Write(p)
	}
	return mac(h.Sum(nil)[:macSize])
}

// equal compares in constant time.
func (m mac) equal(n mac) bool { return hmac.Equal(m[:], n[:]) }
