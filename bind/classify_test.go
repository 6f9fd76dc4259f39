package bind

import (
	"encoding/binary"
	"testing"
)

func TestClassify(t *testing.T) {
	odd := stunMessage(8)
	odd[3] = 7
	wrongCookie := stunMessage(8)
	wrongCookie[4] = 0
	nearlySTUN := message(1, 20, 0)
	copy(nearlySTUN[4:], []byte{0x21, 0x12, 0xA4, 0x42})
	both := message(1, 32, 0)
	copy(both[4:], []byte{0x21, 0x12, 0xA4, 0x42})

	for name, c := range map[string]struct {
		pkt  []byte
		want kind
	}{
		"empty":                        {nil, kindGarbage},
		"one byte":                     {[]byte{1}, kindGarbage},
		"initiation":                   {initiation(0), kindWireGuard},
		"response":                     {message(2, 92, 0), kindWireGuard},
		"cookie":                       {message(3, 64, 0), kindWireGuard},
		"keepalive":                    {message(4, 32, 0), kindWireGuard},
		"short transport":              {message(4, 31, 0), kindGarbage},
		"type 0":                       {message(0, 64, 0), kindGarbage},
		"type 5":                       {message(5, 64, 0), kindGarbage},
		"reserved bytes":               {append([]byte{4, 0, 1, 0}, make([]byte, 60)...), kindGarbage},
		"stun request":                 {stunMessage(0), kindSTUN},
		"stun with attributes":         {stunMessage(100), kindSTUN},
		"stun response":                {append([]byte{1, 1, 0, 0, 0x21, 0x12, 0xA4, 0x42}, make([]byte, 12)...), kindSTUN},
		"stun of wrong length":         {odd, kindGarbage},
		"stun with another cookie":     {wrongCookie, kindGarbage},
		"stun that looks like type 1":  {nearlySTUN, kindSTUN},
		"WireGuard that has a cookie":  {both, kindWireGuard},
		"relay frame":                  {[]byte{0xC0}, kindRelay},
		"relay frame, last first byte": {append([]byte{0xFF}, make([]byte, 99)...), kindRelay},
		"dtls":                         {append([]byte{22}, make([]byte, 99)...), kindGarbage},
		"turn channel":                 {append([]byte{0x40}, make([]byte, 99)...), kindGarbage},
	} {
		if got := classify(c.pkt); got != c.want {
			t.Errorf("%s: kind %d, want %d", name, got, c.want)
		}
	}
}

// FuzzClassify checks the promises other packages build on: what is passed on
// as STUN or WireGuard has the form its parser reads first.
func FuzzClassify(f *testing.F) {
	for _, seed := range [][]byte{nil, initiation(1), transport(1), stunMessage(0), stunMessage(12), {0xC0, 1}, message(1, 20, 0)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, pkt []byte) {
		switch k := classify(pkt); k {
		case kindWireGuard:
			if v := binary.LittleEndian.Uint32(pkt); len(pkt) < 32 || v < 1 || v > 4 {
				t.Fatalf("%x taken for WireGuard", pkt)
			}
		case kindSTUN:
			if len(pkt) < 20 || int(binary.BigEndian.Uint16(pkt[2:]))+20 != len(pkt) || pkt[0] > 3 {
				t.Fatalf("%x taken for STUN", pkt)
			}
		case kindRelay:
			if pkt[0] < 0xC0 {
				t.Fatalf("%x taken for a relay frame", pkt)
			}
		case kindGarbage:
		default:
			t.Fatalf("kind %d", k)
		}
		if isHandshake(pkt) && classify(pkt) != kindWireGuard {
			t.Fatalf("%x is a handshake but not WireGuard", pkt)
		}
	})
}
