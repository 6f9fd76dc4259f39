package relay

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/binary"
	"net/netip"
	"time"

	"golang.org/x/crypto/blake2s"
)

// cookieLife is how long a cookie counts.
const cookieLife = 10 * time.Second

// place is where a client speaks from: an address and port, or the number of a
// WebSocket connection.
type place [18]byte

func placeOf(a netip.AddrPort) (p place) {
	raw := a.Addr().As16()
	copy(p[:], raw[:])
	binary.BigEndian.PutUint16(p[16:], a.Port())
	return p
}

func randomPlace() (p place) {
	rand.Read(p[:])
	return p
}

// cookies makes and checks cookies without keeping any:
//
//	0  4   seconds since the relay started
//	4  16  BLAKE2s-256(key | those 4 bytes | the place), the first 16 bytes
type cookies struct {
	key   [32]byte // of this run: no cookie outlives it
	start time.Time
}

func newCookies(now time.Time) *cookies {
	c := &cookies{start: now}
	rand.Read(c.key[:])
	return c
}

func (c *cookies) make(p place, now time.Time) cookie {
	return c.at(p, uint32(now.Sub(c.start)/time.Second))
}

func (c *cookies) at(p place, second uint32) (out cookie) {
	// All parts have one length, so a hash of them in a row is a MAC.
	var in [32 + 4 + len(p)]byte
	copy(in[:], c.key[:])
	binary.BigEndian.PutUint32(in[32:], second)
	copy(in[36:], p[:])
	sum := blake2s.Sum256(in[:])
	copy(out[:], in[32:36])
	copy(out[4:], sum[:])
	return out
}

// check reports whether k was made for p not long ago.
func (c *cookies) check(k cookie, p place, now time.Time) bool {
	second := binary.BigEndian.Uint32(k[:])
	want := c.at(p, second)
	age := now.Sub(c.start) - time.Duration(second)*time.Second
	return subtle.ConstantTimeCompare(k[:], want[:]) == 1 && age >= 0 && age <= cookieLife
}
