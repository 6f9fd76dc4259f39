package key

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// Public is a device's X25519 public key. The zero value is no key.
type Public struct{ k [Size]byte }

// ParsePublic reads the base64 form (44 characters) WireGuard's tools use.
func ParsePublic(s string) (Public, error) {
	raw, err := decode(s)
	if err != nil {
		return Public{}, fmt.Errorf("parse public key %q: want %d bytes in base64", clip(s), Size)
	}
	return PublicFromBytes(raw)
}

// PublicFromBytes takes the 32 raw bytes of a key; it copies them.
func PublicFromBytes(raw []byte) (Public, error) {
	if len(raw) != Size {
		return Public{}, fmt.Errorf("public key of %d bytes: want %d", len(raw), Size)
	}
	p := Public{k: [Size]byte(raw)}
	if p.IsZero() {
		return Public{}, fmt.Errorf("public key: %w", ErrZero)
	}
	return p, nil
}

// decode reads the one base64 text of a key: strictly, and without the line
// breaks that encoding/base64 passes over.
func decode(s string) ([]byte, error) {
	if len(s) != base64.StdEncoding.EncodedLen(Size) {
		return nil, fmt.Errorf("%d characters", len(s))
	}
	raw, err := base64.StdEncoding.Strict().DecodeString(s)
	if err == nil && len(raw) != Size {
		err = fmt.Errorf("%d bytes", len(raw))
	}
	return raw, err
}

// clip keeps foreign text in an error short.
func clip(s string) string {
	if len(s) > 64 {
		return strings.ToValidUTF8(s[:64], "") + "…"
	}
	return s
}

// IsZero reports whether this is no key.
func (p Public) IsZero() bool { return p == Public{} }

// Compare orders keys by their bytes.
func (p Public) Compare(q Public) int { return bytes.Compare(p.k[:], q.k[:]) }

// Bytes returns a copy of the raw key.
func (p Public) Bytes() []byte { return bytes.Clone(p.k[:]) }

// String returns the base64 form; the inverse of [ParsePublic].
func (p Public) String() string { return base64.StdEncoding.EncodeToString(p.k[:]) }

// Hex returns the form of WireGuard's configuration protocol.
func (p Public) Hex() string { return hex.EncodeToString(p.k[:]) }

// Short returns the first characters of the base64 form, for logs.
func (p Public) Short() string { return p.String()[:8] }

// MarshalText returns the base64 form, or nothing for the zero key.
func (p Public) MarshalText() ([]byte, error) {
	if p.IsZero() {
		return nil, nil
	}
	return []byte(p.String()), nil
}

// UnmarshalText is the inverse of MarshalText.
func (p *Public) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		*p = Public{}
		return nil
	}
	q, err := ParsePublic(string(text))
	if err != nil {
		return err
	}
	*p = q
	return nil
}
