package node

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"nexd/discovery"
	"nexd/localapi"
)

// TestDoctorSaysWhatIs: the doctor does not tell of checks that were not made yet,
// nor of answers that do not come any more.
func TestDoctorSaysWhatIs(t *testing.T) {
	c, p := relayedPair(discovery.NATEasy, discovery.NATEasy)
	shared := []netip.Addr{netip.MustParseAddr("198.51.100.3")}
	c.Own.Public, p.Public = shared, shared
	p.Searching = c.Now.Add(-2 * time.Second)
	if v, _ := judgePeer(c, p); !strings.Contains(v.Why, "began 2s ago") || strings.Contains(v.Why, "answered checks") {
		t.Errorf("behind one address, at the beginning of the search: %s", v.Why)
	}

	c, p = relayedPair(discovery.NATEasy, discovery.NATEasy)
	p.Path = localapi.PathStatus{Kind: localapi.PathDirect, Endpoint: "192.0.2.1:7", RTTMillis: 1}
	if v, _ := judgePeer(c, p); !strings.Contains(v.Why, "are answered at 192.0.2.1:7") {
		t.Errorf("a good path: %s", v.Why)
	}
	p.Silent = true
	if v, _ := judgePeer(c, p); strings.Contains(v.Why, "are answered at") || !strings.Contains(v.Why, "192.0.2.1:7") {
		t.Errorf("a path in doubt: %s", v.Why)
	}
}
