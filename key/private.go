package key

import (
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
)

// Size is the length of both halves of a key, in bytes.
const Size = 32

// ErrZero is the error of using a key that was never set.
var ErrZero = errors.New("key is not set")

const redacted = "(private key)"

// Private is the secret half of a device's X25519 key (RFC 7748), clamped.
// The zero value is not a key. It prints as a fixed word in every format;
// [Private.Reveal] is the only way to its bytes as text.
type Private struct{ k [Size]byte }

// NewPrivate makes a fresh key from the system's random source.
func NewPrivate() Private {
	var p Private
	rand.Read(p.k[:]) // never fails: crypto/rand ends the process instead
	p.clamp()
	return p
}

// ParsePrivate reads the base64 form WireGuard's tools use.
func ParsePrivate(s string) (Private, error) {
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(raw) != Size {
		// The text may be a secret with a typing error: it is not repeated.
		return Private{}, fmt.Errorf("parse private key: want %d bytes in base64", Size)
	}
	var p Private
	copy(p.k[:], raw)
	if p.IsZero() {
		return Private{}, fmt.Errorf("parse private key: %w", ErrZero)
	}
	p.clamp()
	return p, nil
}

// clamp sets the bits RFC 7748 section 5 fixes, so that equal keys are equal bytes.
func (p *Private) clamp() {
	p.k[0] &= 248
	p.k[31] = p.k[31]&127 | 64
}

// IsZero reports whether the key was never set.
func (p Private) IsZero() bool { return p == Private{} }

// Reveal returns the key in base64, for the state file alone.
func (p Private) Reveal() string { return base64.StdEncoding.EncodeToString(p.k[:]) }

// RevealHex returns the key in hexadecimal, for WireGuard's configuration protocol alone.
func (p Private) RevealHex() string { return hex.EncodeToString(p.k[:]) }

// Public returns the public half.
func (p Private) Public() Public {
	priv, err := ecdh.X25519().NewPrivateKey(p.k[:])
	if err != nil {
		panic("key: a 32-byte X25519 key was refused: " + err.Error())
	}
	var pub Public
	copy(pub.k[:], priv.PublicKey().Bytes())
	return pub
}

// Derive returns a 32-byte secret that only the holders of the two private keys
// can compute: HKDF-SHA256 (RFC 5869) over the X25519 secret, salted with both
// public keys in byte order, so both sides get the same bytes. The label keeps
// uses apart. It fails for a zero key or a peer key of low order.
func (p Private) Derive(peer Public, label string) ([32]byte, error) {
	var out [32]byte
	if p.IsZero() || peer.IsZero() {
		return out, ErrZero
	}
	priv, err := ecdh.X25519().NewPrivateKey(p.k[:])
	if err != nil {
		return out, fmt.Errorf("derive: %w", err)
	}
	pub, err := ecdh.X25519().NewPublicKey(peer.k[:])
	if err != nil {
		return out, fmt.Errorf("derive: %w", err)
	}
	secret, err := priv.ECDH(pub)
	if err != nil {
		return out, fmt.Errorf("derive: %w", err)
	}
	a, b := p.Public(), peer
	if b.Compare(a) < 0 {
		a, b = b, a
	}
	salt := append(a.k[:], b.k[:]...)
	okm, err := hkdf.Key(sha256.New, secret, salt, label, len(out))
	if err != nil {
		return out, fmt.Errorf("derive: %w", err)
	}
	copy(out[:], okm)
	return out, nil
}

// Proof returns a MAC over transcript that only the holder of p or of peer's
// private key can make: proof of possession towards peer.
func (p Private) Proof(peer Public, label string, transcript []byte) ([32]byte, error) {
	secret, err := p.Derive(peer, label)
	if err != nil {
		return [32]byte{}, err
	}
	mac := hmac.New(sha256.New, secret[:])
	mac.Write(transcript)
	return [32]byte(mac.Sum(nil)), nil
}

// VerifyProof reports whether proof was made by [Private.Proof] with the other half of this pair.
func (p Private) VerifyProof(peer Public, label string, transcript, proof []byte) bool {
	want, err := p.Proof(peer, label, transcript)
	return err == nil && hmac.Equal(want[:], proof)
}

// String, GoString, Format, LogValue and MarshalText hide the key's bytes.
func (p Private) String() string               { return redacted }
func (p Private) GoString() string             { return redacted }
func (p Private) Format(f fmt.State, _ rune)   { fmt.Fprint(f, redacted) }
func (p Private) LogValue() slog.Value         { return slog.StringValue(redacted) }
func (p Private) MarshalText() ([]byte, error) { return []byte(redacted), nil }
