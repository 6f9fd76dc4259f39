package control

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"nexd/controlapi"
	"nexd/key"
)

// A challenge is not remembered: its token carries what the service has to
// know, under a MAC that only the holder of the challenge key can make. Bytes,
// before base64url without padding:
//
//	 0      version, 1
//	 1..16  nonce
//	17..24  expiry, milliseconds since 1970, big endian
//	25..56  HMAC-SHA256 over 0..24
//
// A token may be answered more than once until it expires; joining is
// idempotent, and each answer has to prove the device's key anew.
const (
	tokenVersion = 1
	nonceSize    = 16
	tokenBody    = 1 + nonceSize + 8
	tokenSize    = tokenBody + sha256.Size
	tokenLabel   = "nexd challenge token v1"
)

var (
	errTokenForm    = errors.New("challenge token is malformed")
	errTokenForeign = errors.New("challenge token was not made by this service")
	errTokenExpired = errors.New("challenge token has expired")
)

// challenger makes challenges and checks them when they come back.
type challenger struct {
	private key.Private
	mac     [32]byte
	life    time.Duration
}

func newChallenger(private key.Private, life time.Duration) (*challenger, error) {
	// The secret shared with itself is known to the holder of the key alone.
	mac, err := private.Derive(private.Public(), tokenLabel)
	if err != nil {
		return nil, fmt.Errorf("challenge key: %w", err)
	}
	return &challenger{private: private, mac: mac, life: life}, nil
}

// challenge returns a fresh one.
func (c *challenger) challenge(now time.Time) controlapi.Challenge {
	b := make([]byte, tokenBody, tokenSize)
	b[0] = tokenVersion
	rand.Read(b[1 : 1+nonceSize])
	binary.BigEndian.PutUint64(b[1+nonceSize:], uint64(now.Add(c.life).UnixMilli()))
	b = c.sum(b)
	return controlapi.Challenge{ServerKey: c.private.Public(), Token: base64.RawURLEncoding.EncodeToString(b)}
}

// sum appends the MAC of body to it.
func (c *challenger) sum(body []byte) []byte {
	m := hmac.New(sha256.New, c.mac[:])
	m.Write(body)
	return m.Sum(body)
}

// check reports whether token is one of ours and still valid.
func (c *challenger) check(token string, now time.Time) error {
	if len(token) != base64.RawURLEncoding.EncodedLen(tokenSize) {
		return errTokenForm
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil || len(b) != tokenSize || b[0] != tokenVersion {
		return errTokenForm
	}
	if !hmac.Equal(c.sum(b[:tokenBody:tokenBody]), b) {
		return errTokenForeign
	}
	expiry := binary.BigEndian.Uint64(b[1+nonceSize:])
	if uint64(max(now.UnixMilli(), 0)) >= expiry {
		return errTokenExpired
	}
	return nil
}

// verify checks the token and the proof of a join request.
func (c *challenger) verify(r controlapi.JoinRequest, now time.Time) error {
	return c.proved(r.Token, r.PublicKey, controlapi.ProofLabel, r.Transcript(), r.Proof, now)
}

// verifyRelay does the same for a relay's.
func (c *challenger) verifyRelay(r controlapi.RelayJoinRequest, now time.Time) error {
	return c.proved(r.Token, r.PublicKey, controlapi.RelayProofLabel, r.Transcript(), r.Proof, now)
}

func (c *challenger) proved(token string, public key.Public, label string, transcript, proof []byte, now time.Time) error {
	if err := c.check(token, now); err != nil {
		return err
	}
	if !c.private.VerifyProof(public, label, transcript, proof) {
		return errProof
	}
	return nil
}

var errProof = errors.New("the proof does not match the public key and the request")
