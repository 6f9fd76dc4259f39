package control

import (
	"github.com/prometheus/client_golang/prometheus"

	"nexd/relay"
)

// relayMetrics shows a relay's own counters.
type relayMetrics struct{ stats func() relay.Stats }

func relayDesc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("nexd_relay_"+name, help, labels, nil)
}

var (
	relaySessions   = relayDesc("sessions", "Devices with a session.", "transport")
	relayNetworks   = relayDesc("networks", "Networks with a session.")
	relayPackets    = relayDesc("packets_total", "Packets handed to receivers.", "transport")
	relayBytes      = relayDesc("bytes_total", "Bytes of frames handed to receivers.", "transport")
	relayAdmissions = relayDesc("admissions_total", "Sessions by how they began or went on.", "result")
	relayChallenges = relayDesc("challenges_total", "Challenges sent.")
	relayRefusals   = relayDesc("refusals_total", "Admissions refused, by reason.", "reason")
	relayDrops      = relayDesc("drops_total", "Frames dropped, by reason.", "reason")
)

// Describe implements [prometheus.Collector].
func (relayMetrics) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		relaySessions, relayNetworks, relayPackets, relayBytes, relayAdmissions, relayChallenges, relayRefusals, relayDrops,
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
	put(relayAdmissions, counter, float64(st.Admitted), "new")
	put(relayAdmissions, counter, float64(st.Moved), "moved")
	put(relayAdmissions, counter, float64(st.Replaced), "replaced")
	put(relayChallenges, counter, float64(st.Challenges))
	for why, n := range st.Refused {
		put(relayRefusals, counter, float64(n), why.String())
	}
	for why, n := range st.Dropped {
		put(relayDrops, counter, float64(n), why.String())
	}
}
