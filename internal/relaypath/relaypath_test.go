package relaypath_test

import (
	"net/netip"
	"testing"

	"nexd/internal/relaypath"
)

func TestRoundTrip(t *testing.T) {
	for _, n := range []uint16{1, 2, 4096, 65535} {
		a := relaypath.Addr(n)
		if got := relaypath.Number(a); got != n || !relaypath.Is(a.Addr()) {
			t.Errorf("relay %d is %s, which is relay %d", n, a, got)
		}
	}
	if a := relaypath.Addr(0); a.IsValid() {
		t.Errorf("relay 0 has the address %s", a)
	}
}

func TestOthersAreNoRelay(t *testing.T) {
	for _, s := range []string{"192.0.2.1:7", "[2001:db8::1]:7", "[100:0:0:1::1]:7", "[100::2]:7"} {
		if n := relaypath.Number(netip.MustParseAddrPort(s)); n != 0 {
			t.Errorf("%s is relay %d", s, n)
		}
	}
	if !relaypath.Is(netip.MustParseAddr("100::2")) || relaypath.Is(netip.MustParseAddr("100:0:0:1::1")) {
		t.Error("the block is 100::/64")
	}
}
