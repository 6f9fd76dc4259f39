package relaymetrics_test

import (
	"maps"
	"strings"
	"testing"

	"nexd/internal/opsport/opsporttest"
	"nexd/relay"
	"nexd/relay/relaymetrics"
)

func TestEachCountHasItsName(t *testing.T) {
	got := opsporttest.Values(t, "nexd_relay_", relaymetrics.New(func() relay.Stats {
		return relay.Stats{
			SessionsUDP: 1, SessionsTLS: 2, Networks: 3, PacketsUDP: 4, PacketsTLS: 5, BytesUDP: 6, BytesTLS: 7,
			Challenges: 8, Admitted: 9, Moved: 10, Replaced: 11,
			Refused: map[relay.Refusal]uint64{relay.RefusedDraining: 12}, Dropped: map[relay.Drop]uint64{relay.DropQueue: 13},
		}
	}))
	want := map[string]float64{
		"sessions udp": 1, "sessions tls": 2, "networks": 3, "packets_total udp": 4, "packets_total tls": 5, "bytes_total udp": 6, "bytes_total tls": 7,
		"challenges_total": 8, "admitted_total": 9, "moved_total": 10, "replaced_total": 11,
		"refused_total draining": 12, "dropped_total queue": 13,
	}
	if !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A label is one word, and each reason has its own.
func TestReasonsAreWords(t *testing.T) {
	all := map[relay.Refusal]uint64{}
	for why := relay.RefusedCredential; why <= relay.RefusedFuture; why++ {
		all[why] = 1
	}
	reasons := 0
	for name := range opsporttest.Values(t, "nexd_relay_", relaymetrics.New(func() relay.Stats { return relay.Stats{Refused: all} })) {
		why, ok := strings.CutPrefix(name, "refused_total ")
		if !ok {
			continue
		}
		if reasons++; why == "" || why == "other" || strings.ContainsAny(why, " (") {
			t.Errorf("the label is %q", why)
		}
	}
	if reasons != len(all) {
		t.Errorf("%d reasons, want %d", reasons, len(all))
	}
}
