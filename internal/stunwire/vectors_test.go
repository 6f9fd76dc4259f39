package stunwire

import (
	"net/netip"
	"strconv"
	"testing"

	"nexd/test/vectors"
)

// TestVectors computes what docs/protocol.md shows of requests and checks.
func TestVectors(t *testing.T) {
	page := vectors.Open(t, "stun")
	id := TxID(page.Bytes("stun.id"))
	v4 := netip.MustParseAddrPort(page.String("stun.from4"))
	v6 := netip.MustParseAddrPort(page.String("stun.from6"))
	number := func(name string) uint64 {
		n, err := strconv.ParseUint(page.String(name), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	key := [KeySize]byte(page.Bytes("pair.check"))
	hint := Hint(page.Bytes("pair.hint.ab"))
	epoch, seq := number("stun.epoch"), number("stun.seq")

	page.Is("stun.request", AppendRequest(nil, id))
	page.Is("stun.success", AppendSuccess(nil, id, v4, true))
	page.Is("stun.check", AppendCheck(nil, Check{ID: id, Hint: hint, Priority: uint32(number("stun.priority")), Epoch: epoch, Seq: seq}, &key))
	page.Is("stun.padded", AppendPaddedCheck(nil, Check{ID: id, Hint: hint, Priority: uint32(number("stun.priority")), Epoch: epoch, Seq: seq}, 120, &key))
	page.Is("stun.reply4", AppendCheckReply(nil, id, v4, &key))
	page.Is("stun.reply6", AppendCheckReply(nil, id, v6, &key))
	page.Is("stun.stale", AppendCheckStale(nil, id, number("stun.newest"), &key))

	// And they are read as they are written.
	for _, name := range []string{"stun.check", "stun.padded", "stun.reply4", "stun.reply6", "stun.stale"} {
		m, err := Parse(page.Bytes(name))
		if err != nil || !m.Verify(&key) || m.ID != id {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
}
