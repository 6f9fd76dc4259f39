package relaymetrics_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"nexd/relay"
	"nexd/relay/relaymetrics"
)

func TestEachCountHasItsName(t *testing.T) {
	c := relaymetrics.New(func() relay.Stats {
		return relay.Stats{
			SessionsUDP: 1, SessionsTLS: 2, Networks: 3, PacketsUDP: 4, PacketsTLS: 5, BytesUDP: 6, BytesTLS: 7,
			Challenges: 8, Admitted: 9, Moved: 10, Replaced: 11,
			Refused: map[relay.Refusal]uint64{relay.RefusedDraining: 12}, Dropped: map[relay.Drop]uint64{relay.DropQueue: 13},
		}
	})
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	got := map[string]float64{}
	for _, f := range families {
		for _, m := range f.Metric {
			name := strings.TrimPrefix(f.GetName(), "nexd_relay_")
			for _, l := range m.Label {
				name += " " + l.GetValue()
			}
			got[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	want := map[string]float64{
		"sessions udp": 1, "sessions tls": 2, "networks": 3, "packets_total udp": 4, "packets_total tls": 5, "bytes_total udp": 6, "bytes_total tls": 7,
		"challenges_total": 8, "admitted_total": 9, "moved_total": 10, "replaced_total": 11,
		"refused_total draining": 12, "dropped_total queue": 13,
	}
	for name, n := range want {
		if got[name] != n {
			t.Errorf("%s is %v, want %v", name, got[name], n)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d counts, want %d: %v", len(got), len(want), got)
	}
}

// A label is one word, and each reason has its own.
func TestReasonsAreWords(t *testing.T) {
	all := map[relay.Refusal]uint64{}
	for why := relay.RefusedCredential; why <= relay.RefusedFuture; why++ {
		all[why] = 1
	}
	registry := prometheus.NewPedanticRegistry() // refuses two of one name and label
	registry.MustRegister(relaymetrics.New(func() relay.Stats { return relay.Stats{Refused: all} }))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "nexd_relay_refused_total" {
			continue
		}
		if len(f.Metric) != len(all) {
			t.Errorf("%d reasons, want %d", len(f.Metric), len(all))
		}
		for _, m := range f.Metric {
			if v := m.Label[0].GetValue(); v == "" || v == "other" || strings.ContainsAny(v, " (") {
				t.Errorf("the label is %q", v)
			}
		}
	}
}
