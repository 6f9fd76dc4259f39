package control

import (
	"github.com/prometheus/client_golang/prometheus"

	"nexd/relay"
)

// relayMetrics shows a relay's own counters, under the names a stand-alone
// relay gives them.
type relayMetrics struct{ stats func() relay.Stats }

func relayDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("nexd_relay_"+name, help, labels, nil)
}

var (
	relaySessions   = relayDesc("sessions", "Devices that are connected, by transport.", "transport")
	relayNetworks   = relayDesc("networks", "Networks with a device that is connected, or was a moment ago.")
	relayPackets    = relayDesc("packets_total", "Packets handed to receivers, by their transport.", "transport")
	relayBytes      = relayDesc("bytes_total", "Bytes of those packets with the relay's own headers.", "transport")
	relayAdmitted   = relayDesc("admitted_total", "New sessions.")
	relayMoved      = relayDesc("moved_total", "Sessions that were renewed, or went on from another address.")
	relayReplaced   = relayDesc("replaced_total", "Sessions that a newer one of the same device ended.")
	relayChallenges = relayDesc("challenges_total", "Challenges sent to addresses without a session.")
	relayRefused    = relayDesc("refused_total", "Admissions refused, by reason.", "reason")
	relayDropped    = relayDesc("dropped_total", "Frames dropped, by reason.", "reason")
)

// Describe implements [prometheus.Collector].
func (relayMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		relaySessions, relayNetworks, relayPackets, relayBytes, relayAdmitted, relayMoved, relayReplaced,
		relayChallenges, relayRefused, relayDropped,
	} {
		out <- d
	}
}

// Collect implements [prometheus.Collector].
func (m relayMetrics) Collect(out chan<- prometheus.Metric) {
	st := m.stats()
	put := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	put(relaySessions, gauge, float64(st.SessionsUDP), "udp")
	put(relaySessions, gauge, float64(st.SessionsTLS), "tls")
	put(relayNetworks, gauge, float64(st.Networks))
	put(relayPackets, counter, float64(st.PacketsUDP), "udp")
	put(relayPackets, counter, float64(st.PacketsTLS), "tls")
	put(relayBytes, counter, float64(st.BytesUDP), "udp")
	put(relayBytes, counter, float64(st.BytesTLS), "tls")
	put(relayAdmitted, counter, float64(st.Admitted))
	put(relayMoved, counter, float64(st.Moved))
	put(relayReplaced, counter, float64(st.Replaced))
	put(relayChallenges, counter, float64(st.Challenges))
	for why, n := range st.Refused {
		put(relayRefused, counter, float64(n), why.String())
	}
	for why, n := range st.Dropped {
		put(relayDropped, counter, float64(n), why.String())
	}
}
