package bind

import (
	"testing"

	"nexd/test/vectors"
)

// TestVectorsAreSorted: what docs/protocol.md calls STUN goes to discovery.
func TestVectorsAreSorted(t *testing.T) {
	page := vectors.Open(t, "datagram")
	for name, want := range map[string]kind{
		"stun.request": kindSTUN, "stun.success": kindSTUN, "stun.check": kindSTUN, "stun.reply6": kindSTUN, "stun.stale": kindSTUN,
		"datagram.keepalive": kindWireGuard, "datagram.relay": kindRelay, "datagram.nothing": kindGarbage,
	} {
		if got := classify(page.Bytes(name)); got != want {
			t.Errorf("%s is sorted as %d, want %d", name, got, want)
		}
	}
}
