package relayd

import (
	"github.com/prometheus/client_golang/prometheus"

	"nexd/internal/opsport"
	"nexd/internal/stunserver"
	"nexd/relay"
)

// collector tells how a stand-alone relay is doing, when it is asked.
type collector struct{ r *Relay }

var (
	descReady     = prometheus.NewDesc("nexd_relay_ready", "1 while devices are served.", nil, nil)
	descConnected = prometheus.NewDesc("nexd_relay_service_connected", "1 while the control service answers heartbeats.", nil, nil)
	descDenied    = prometheus.NewDesc("nexd_relay_denied_devices", "Deleted devices whose credentials do not count any more.", nil, nil)

	descSTUN        = prometheus.NewDesc("nexd_stun_answers_total", "Answers to STUN binding requests, by result.", []string{"result"}, nil)
	descSTUNAsked   = prometheus.NewDesc("nexd_stun_requests_total", "STUN binding requests.", nil, nil)
	descSTUNDropped = prometheus.NewDesc("nexd_stun_dropped_total", "Packets to the STUN port that got no answer, by reason.", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	ready := c.r.health.readiness()
	opsport.Gauge(ch, descReady, opsport.Flag(ready.Ready))
	opsport.Gauge(ch, descConnected, opsport.Flag(ready.State == stateRunning))
	opsport.Gauge(ch, descDenied, float64(len(c.r.book.read().denied)))
	var st stunserver.Stats
	if s := c.r.station.Load(); s != nil {
		st = s.stun.Stats()
	}
	collectSTUN(ch, st)
}

// relayStats are the counters of the relay itself. They begin anew with each station.
func (r *Relay) relayStats() relay.Stats {
	if s := r.station.Load(); s != nil {
		return s.server.Stats()
	}
	return relay.Stats{}
}

func collectSTUN(ch chan<- prometheus.Metric, st stunserver.Stats) {
	opsport.Counter(ch, descSTUNAsked, st.Requests)
	opsport.Counter(ch, descSTUN, st.Answers, "address")
	opsport.Counter(ch, descSTUN, st.Errors, "error")
	opsport.Counter(ch, descSTUNDropped, st.Junk, "junk")
	opsport.Counter(ch, descSTUNDropped, st.Limited, "limited")
	opsport.Counter(ch, descSTUNDropped, st.WriteErrors, "send")
}
