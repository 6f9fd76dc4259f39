package discovery

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"

	"nexd/internal/stunwire"
	"nexd/key"
)

// secretLabel keeps this use of the device keys apart from all others.
const secretLabel = "nexd discovery v1"

// secrets are what two devices share without ever having spoken:
//
//	root     = key.Derive(both keys, "nexd discovery v1")
//	check    = HKDF-Expand(root, "check")                        proves checks, both directions
//	hint     = HKDF-Expand(root, "hint"  | sender | receiver)[:8]
//	seal     = HKDF-Expand(root, "offer" | sender | receiver)    seals offers
//
// Making them costs about 0.1 ms (X25519). For a wanted peer it is done at once,
// for all other members in the background, one after the other: 10,000 members
// are a second of one core after the start, and a check of a member not reached
// yet is missed like a lost packet. A hint from public values alone would be
// cheaper, but would let everybody who knows the keys see who talks to whom.
type secrets struct {
	check           [stunwire.KeySize]byte
	hintIn, hintOut stunwire.Hint
	sealIn, sealOut [chacha20poly1305.KeySize]byte
}

// newSecrets derives the secrets of own and peer; it fails for a bad key.
func newSecrets(own key.Private, self, peer key.Public) (*secrets, error) {
	root, err := own.Derive(peer, secretLabel)
	if err != nil {
		return nil, fmt.Errorf("secrets of %s: %w", peer.Short(), err)
	}
	out, in := string(self.Bytes())+string(peer.Bytes()), string(peer.Bytes())+string(self.Bytes())
	var s secrets
	for _, x := range []struct {
		dst  []byte
		info string
	}{
		{s.check[:], "check"},
		{s.hintOut[:], "hint" + out},
		{s.hintIn[:], "hint" + in},
		{s.sealOut[:], "offer" + out},
		{s.sealIn[:], "offer" + in},
	} {
		k, err := hkdf.Expand(sha256.New, root[:], x.info, len(x.dst))
		if err != nil {
			return nil, fmt.Errorf("secrets of %s: %w", peer.Short(), err)
		}
		copy(x.dst, k)
	}
	return &s, nil
}

// sealVersion is the first byte of a sealed offer.
const sealVersion = 1

var errSealed = errors.New("open offer: not sealed for us by this peer")

// seal returns version (1) | nonce (24, random) | XChaCha20-Poly1305 of plain,
// with the version as associated data. A random nonce of 192 bits needs no state.
func (s *secrets) seal(plain []byte) []byte {
	aead := newAEAD(&s.sealOut)
	b := make([]byte, 1+aead.NonceSize(), 1+aead.NonceSize()+len(plain)+aead.Overhead())
	b[0] = sealVersion
	rand.Read(b[1:])
	return aead.Seal(b, b[1:], plain, b[:1])
}

// open is the inverse of the peer's seal.
func (s *secrets) open(sealed []byte) ([]byte, error) {
	aead := newAEAD(&s.sealIn)
	if len(sealed) < 1+aead.NonceSize()+aead.Overhead() || sealed[0] != sealVersion {
		return nil, errSealed
	}
	nonce := sealed[1 : 1+aead.NonceSize()]
	plain, err := aead.Open(nil, nonce, sealed[1+aead.NonceSize():], sealed[:1])
	if err != nil {
		return nil, errSealed
	}
	return plain, nil
}

func newAEAD(k *[chacha20poly1305.KeySize]byte) cipher.AEAD {
	aead, err := chacha20poly1305.NewX(k[:])
	if err != nil {
		panic("discovery: a 32-byte key was refused: " + err.Error())
	}
	return aead
}
