package relayd

import (
	"github.com/prometheus/client_golang/prometheus"

	"nexd/internal/stunserver"
	"nexd/relay"
)

// collector turns the counters of a relay into metrics when they are asked for.
// They begin anew with each station.
type collector struct{ r *Relay }

var (
	byTransport    = []string{"transport"}
	descReady      = prometheus.NewDesc("nexd_relay_ready", "1 while devices are served.", nil, nil)
	descConnected  = prometheus.NewDesc("nexd_relay_service_connected", "1 while the control service answers heartbeats.", nil, nil)
	descSessions   = prometheus.NewDesc("nexd_relay_sessions", "Devices that are connected, by transport.", byTransport, nil)
	descNetworks   = prometheus.NewDesc("nexd_relay_networks", "Networks with a device that is connected, or was a moment ago.", nil, nil)
	descPackets    = prometheus.NewDesc("nexd_relay_packets_total", "Packets handed to receivers, by their transport.", byTransport, nil)
	descBytes      = prometheus.NewDesc("nexd_relay_bytes_total", "Bytes of those packets with the relay's own headers.", byTransport, nil)
	descAdmitted   = prometheus.NewDesc("nexd_relay_admitted_total", "New sessions.", nil, nil)
	descMoved      = prometheus.NewDesc("nexd_relay_moved_total", "Sessions that were renewed, or went on from another address.", nil, nil)
	descReplaced   = prometheus.NewDesc("nexd_relay_replaced_total", "Sessions that a newer one of the same device ended.", nil, nil)
	descChallenges = prometheus.NewDesc("nexd_relay_challenges_total", "Challenges sent to addresses without a session.", nil, nil)
	descRefused    = prometheus.NewDesc("nexd_relay_refused_total", "Admissions refused, by reason.", []string{"reason"}, nil)
	descDropped    = prometheus.NewDesc("nexd_relay_dropped_total", "Frames dropped, by reason.", []string{"reason"}, nil)
	descDenied     = prometheus.NewDesc("nexd_relay_denied_devices", "Deleted devices whose credentials do not count any more.", nil, nil)

	descSTUN        = prometheus.NewDesc("nexd_stun_answers_total", "Answers to STUN binding requests, by result.", []string{"result"}, nil)
	descSTUNAsked   = prometheus.NewDesc("nexd_stun_requests_total", "STUN binding requests.", nil, nil)
	descSTUNDropped = prometheus.NewDesc("nexd_stun_dropped_total", "Packets to the STUN port that got no answer, by reason.", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	ready := c.r.health.readiness()
	gauge(ch, descReady, truth(ready.Ready))
	gauge(ch, descConnected, truth(ready.State == stateRunning))
	gauge(ch, descDenied, float64(len(c.r.book.read().denied)))
	var (
		st   relay.Stats
		stun stunserver.Stats
	)
	if s := c.r.station.Load(); s != nil {
		st, stun = s.server.Stats(), s.stun.Stats()
	}
	gauge(ch, descSessions, float64(st.SessionsUDP), "udp")
	gauge(ch, descSessions, float64(st.SessionsTLS), "tls")
	gauge(ch, descNetworks, float64(st.Networks))
	counter(ch, descPackets, st.PacketsUDP, "udp")
	counter(ch, descPackets, st.PacketsTLS, "tls")
	counter(ch, descBytes, st.BytesUDP, "udp")
	counter(ch, descBytes, st.BytesTLS, "tls")
	counter(ch, descAdmitted, st.Admitted)
	counter(ch, descMoved, st.Moved)
	counter(ch, descReplaced, st.Replaced)
	counter(ch, descChallenges, st.Challenges)
	for why, n := range st.Refused {
		counter(ch, descRefused, n, why.String())
	}
	for why, n := range st.Dropped {
		counter(ch, descDropped, n, why.String())
	}
	collectSTUN(ch, stun)
}

func collectSTUN(ch chan<- prometheus.Metric, st stunserver.Stats) {
	counter(ch, descSTUNAsked, st.Requests)
	counter(ch, descSTUN, st.Answers, "address")
	counter(ch, descSTUN, st.Errors, "error")
	counter(ch, descSTUNDropped, st.Junk, "junk")
	counter(ch, descSTUNDropped, st.Limited, "limited")
	counter(ch, descSTUNDropped, st.WriteErrors, "send")
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, v uint64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
