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
	"unique"
)

// Size is the length of both halves of a key, in bytes.
const Size = 32

// ErrZero is the error of using a key that was never set.
var ErrZero = errors.New("key is not set")

const redacted = "(private key)"

// Private is the secret half of a device's X25519 key (RFC 7748), clamped.
// The zero value is not a key. It is comparable, and prints as a fixed word in
// every format; [Private.Reveal] is the only way to its bytes as text.
//
// The bytes stand behind pointers, and equal keys behind the same ones: package
// fmt calls no methods on unexported fields, so a struct that holds a Private
// would show bytes held in place. It follows one pointer where the verb does
// not fit, so there are two; what it shows is an address.
type Private struct {
	k unique.Handle[unique.Handle[[Size]byte]]
}

// NewPrivate makes a fresh key from the system's random source.
func NewPrivate() Private {
	var raw [Size]byte
	rand.Read(raw[:]) // never fails: crypto/rand ends the process instead
	return clamped(raw)
}

// ParsePrivate reads the base64 form WireGuard's tools use.
func ParsePrivate(s string) (Private, error) {
	raw, err := decode(s)
	if err != nil {
		// The text may be a secret with a typing error: it is not repeated.
		return Private{}, fmt.Errorf("parse private key: want %d bytes in base64", Size)
	}
	if [Size]byte(raw) == [Size]byte{} {
		return Private{}, fmt.Errorf("parse private key: %w", ErrZero)
	}
	return clamped([Size]byte(raw)), nil
}

// clamped sets the bits RFC 7748 section 5 fixes, so that equal keys are equal bytes.
func clamped(raw [Size]byte) Private {
	raw[0] &= 248
	raw[31] = raw[31]&127 | 64
	return Private{unique.Make(unique.Make(raw))}
}

// bytes returns the raw key; all zero for the zero value.
func (p Private) bytes() [Size]byte {
	if p.IsZero() {
		return [Size]byte{}
	}
	return p.k.Value().Value()
}

// x25519 returns the key in crypto/ecdh's form.
func (p Private) x25519() *ecdh.PrivateKey {
	raw := p.bytes()
	priv, err := ecdh.X25519().NewPrivateKey(raw[:])
	if err != nil {
		panic("key: a 32-byte X25519 key was refused: " + err.Error())
	}
	return priv
}

// IsZero reports whether the key was never set.
func (p Private) IsZero() bool { return p == Private{} }

// Reveal returns the key in base64, for the state file alone.
func (p Private) Reveal() string {
	raw := p.bytes()
	return base64.StdEncoding.EncodeToString(raw[:])
}

// RevealHex returns the key in hexadecimal, for WireGuard's configuration protocol alone.
func (p Private) RevealHex() string {
	raw := p.bytes()
	return hex.EncodeToString(raw[:])
}

// Public returns the public half.
func (p Private) Public() Public {
	return Public{k: [Size]byte(p.x25519().PublicKey().Bytes())}
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
	pub, err := ecdh.X25519().NewPublicKey(peer.k[:])
	if err != nil {
		return out, fmt.Errorf("derive: %w", err)
	}
	secret, err := p.x25519().ECDH(pub)
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
