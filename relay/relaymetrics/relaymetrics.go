// Package relaymetrics shows what a relay counts to Prometheus, by the same names
// wherever the relay runs: in the control service or alone.
package relaymetrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"nexd/internal/opsport"
	"nexd/relay"
)

// New shows what stats says when the metrics are read; several goroutines may.
func New(stats func() relay.Stats) prometheus.Collector { return collector{stats} }

type collector struct{ stats func() relay.Stats }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("nexd_relay_"+name, help, labels, nil)
}

var (
	sessions   = desc("sessions", "Devices that are connected, by transport.", "transport")
	networks   = desc("networks", "Networks with a device that is connected, or was a moment ago.")
	packets    = desc("packets_total", "Packets handed to receivers, by their transport.", "transport")
	bytes      = desc("bytes_total", "Bytes of those packets with the relay's own headers.", "transport")
	admitted   = desc("admitted_total", "New sessions.")
	moved      = desc("moved_total", "Sessions that were renewed, or went on from another address.")
	replaced   = desc("replaced_total", "Sessions that a newer one of the same device ended.")
	challenges = desc("challenges_total", "Challenges sent to addresses without a session.")
	refused    = desc("refused_total", "Admissions refused, by reason.", "reason")
	dropped    = desc("dropped_total", "Frames dropped, by reason.", "reason")
)

// Describe implements prometheus.Collector.
func (collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{sessions, networks, packets, bytes, admitted, moved, replaced, challenges, refused, dropped} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	st := c.stats()
	opsport.Gauge(out, sessions, float64(st.SessionsUDP), "udp")
	opsport.Gauge(out, sessions, float64(st.SessionsTLS), "tls")
	opsport.Gauge(out, networks, float64(st.Networks))
	opsport.Counter(out, packets, st.PacketsUDP, "udp")
	opsport.Counter(out, packets, st.PacketsTLS, "tls")
	opsport.Counter(out, bytes, st.BytesUDP, "udp")
	opsport.Counter(out, bytes, st.BytesTLS, "tls")
	opsport.Counter(out, admitted, st.Admitted)
	opsport.Counter(out, moved, st.Moved)
	opsport.Counter(out, replaced, st.Replaced)
	opsport.Counter(out, challenges, st.Challenges)
	for why, n := range st.Refused {
		opsport.Counter(out, refused, n, word(why))
	}
	for why, n := range st.Dropped {
		opsport.Counter(out, dropped, n, why.String())
	}
}

// word is a refusal as a label: its own text is a sentence for people.
func word(why relay.Refusal) string {
	switch why {
	case relay.RefusedCredential:
		return "credential"
	case relay.RefusedExpired:
		return "expired"
	case relay.RefusedProof:
		return "proof"
	case relay.RefusedStale:
		return "stale"
	case relay.RefusedFull:
		return "full"
	case relay.RefusedDraining:
		return "draining"
	case relay.RefusedFuture:
		return "future"
	}
	return "other"
}
