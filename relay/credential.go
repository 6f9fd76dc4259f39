package relay

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"golang.org/x/crypto/blake2s"

	"nexd/key"
)

const (
	credentialVersion = 1
	credentialSigned  = 1 + key.Size + 16 + 8 + 4 // bytes before the signature
	credentialSize    = credentialSigned + ed25519.SignatureSize

	credentialLabel = "nexd relay credential v1\x00"
	networkLabel    = "nexd relay network v1\x00"
)

// ClockTolerance is how far the clocks of the service and a relay may differ:
// a credential counts for so long after its expiry.
const ClockTolerance = 2 * time.Minute

// MaxLifetime is the longest a credential may be valid from now. One that is
// valid for longer was made by a service, or is read by a relay, whose clock is wrong.
const MaxLifetime = 7 * 24 * time.Hour

// Errors of a credential.
var (
	ErrCredential = errors.New("relay credential is not valid")
	ErrExpired    = errors.New("relay credential has expired")
	ErrFuture     = errors.New("relay credential is valid for too long")
)

// NetworkID names a network towards relays. The zero value is none.
type NetworkID [16]byte

// NetworkOf returns the id of the network the service calls name.
func NetworkOf(name string) NetworkID {
	sum := blake2s.Sum256([]byte(networkLabel + name))
	return NetworkID(sum[:16])
}

// String returns the id in hexadecimal, for logs.
func (n NetworkID) String() string { return hex.EncodeToString(n[:]) }

// Credential says that a device is a member of a network until it expires. The
// service signs it, the device shows it to relays.
//
//	0   1   version, 1
//	1   32  the device's public key
//	33  16  network id
//	49  8   expiry, seconds since 1970
//	57  4   the first bytes of the SHA-256 of the service's Ed25519 public key
//	61  64  Ed25519 signature over "nexd relay credential v1", a zero byte, and bytes 0–60
type Credential struct {
	Device  key.Public
	Network NetworkID
	Expires time.Time // whole seconds
}

// Sign returns the 125 bytes of the credential, signed with the service's key.
func (c Credential) Sign(service ed25519.PrivateKey) []byte {
	b := make([]byte, 0, credentialSize)
	b = appendKey(append(b, credentialVersion), c.Device)
	b = append(b, c.Network[:]...)
	b = binary.BigEndian.AppendUint64(b, uint64(c.Expires.Unix()))
	id := issuerID(service.Public().(ed25519.PublicKey))
	b = append(b, id[:]...)
	return append(b, ed25519.Sign(service, signedText(b))...)
}

// ParseCredential reads a credential without believing it: for its holder, who
// wants to know when to renew it.
func ParseCredential(b []byte) (Credential, error) {
	if len(b) != credentialSize || b[0] != credentialVersion {
		return Credential{}, fmt.Errorf("%w: %d bytes", ErrCredential, len(b))
	}
	device, err := key.PublicFromBytes(b[1 : 1+key.Size])
	if err != nil {
		return Credential{}, fmt.Errorf("%w: %w", ErrCredential, err)
	}
	seconds := binary.BigEndian.Uint64(b[49:])
	if seconds > 1<<40 {
		return Credential{}, fmt.Errorf("%w: expiry out of range", ErrCredential)
	}
	return Credential{
		Device:  device,
		Network: NetworkID(b[33:49]),
		Expires: time.Unix(int64(seconds), 0),
	}, nil
}

func signedText(b []byte) []byte {
	return append([]byte(credentialLabel), b[:credentialSigned]...)
}

func issuerID(service ed25519.PublicKey) [4]byte {
	sum := sha256.Sum256(service)
	return [4]byte(sum[:4])
}

// issuers are the services a relay believes.
type issuers []ed25519.PublicKey

// verify reads a credential and believes it or not: [ErrCredential],
// [ErrExpired] or [ErrFuture]. With no service it believes nothing.
func (is issuers) verify(b []byte, now time.Time) (Credential, error) {
	c, err := ParseCredential(b)
	if err != nil {
		return Credential{}, err
	}
	for _, service := range is {
		if issuerID(service) != [4]byte(b[57:61]) || !ed25519.Verify(service, signedText(b), b[credentialSigned:]) {
			continue
		}
		return c, c.timely(now)
	}
	return Credential{}, fmt.Errorf("%w: signed by no known service", ErrCredential)
}

// timely says whether the credential counts now.
func (c Credential) timely(now time.Time) error {
	switch {
	case now.After(c.Expires.Add(ClockTolerance)):
		return fmt.Errorf("%w at %s", ErrExpired, c.Expires.UTC().Format(time.RFC3339))
	case c.Expires.After(now.Add(MaxLifetime + ClockTolerance)):
		return fmt.Errorf("%w: until %s", ErrFuture, c.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}
