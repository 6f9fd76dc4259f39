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
)

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	ready := c.r.health.readiness()
	opsport.Gauge(ch, descReady, opsport.Flag(ready.Ready))
	opsport.Gauge(ch, descConnected, opsport.Flag(ready.State == stateRunning))
	opsport.Gauge(ch, descDenied, float64(len(c.r.book.read().denied)))
}

// relayStats are the counters of the relay itself. They begin anew with each station.
func (r *Relay) relayStats() relay.Stats {
	if s := r.station.Load(); s != nil {
		return s.server.Stats()
	}
	return relay.Stats{}
}

// stunStats are those of the STUN server beside it, queued what did not get to it.
func (r *Relay) stunStats() stunserver.Stats {
	if s := r.station.Load(); s != nil {
		return s.stun.Stats()
	}
	return stunserver.Stats{}
}

func (r *Relay) stunQueued() uint64 {
	if s := r.station.Load(); s != nil {
		return s.others.Dropped()
	}
	return 0
}
