package control

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics counts; it names no device. Labels take few values: routes are
// patterns, codes and results are ours.
type metrics struct {
	registry *prometheus.Registry
	joins    *prometheus.CounterVec // by result: new, again, reclaimed, or a refusal's code
	requests *prometheus.CounterVec // by route and code
	signals  *prometheus.CounterVec // by result
	events   *prometheus.CounterVec // by type
	limited  *prometheus.CounterVec // by what
	leases   prometheus.Counter
}

func newMetrics() *metrics {
	vec := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "nexd", Subsystem: "control", Name: name, Help: help}, labels)
	}
	m := &metrics{
		registry: prometheus.NewRegistry(),
		joins:    vec("joins_total", "Join requests by result.", "result"),
		requests: vec("requests_total", "Requests that were answered, by route and status code.", "route", "code"),
		signals:  vec("signals_total", "Signals between members by result.", "result"),
		events:   vec("stream_events_total", "Events written to streams by type.", "type"),
		limited:  vec("rate_limited_total", "Requests refused by a rate limit.", "what"),
		leases: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "nexd", Subsystem: "control", Name: "leases_ended_total",
			Help: "Ephemeral devices deleted because their lease was over.",
		}),
	}
	m.registry.MustRegister(m.joins, m.requests, m.signals, m.events, m.limited, m.leases,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// follow adds the gauges of a hub.
func (m *metrics) follow(h *hub) {
	gauge := func(name, help string, value func() int) {
		m.registry.MustRegister(prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Namespace: "nexd", Subsystem: "control", Name: name, Help: help},
			func() float64 { return float64(value()) }))
	}
	gauge("devices", "Devices that are members.", func() int { n, _ := h.counts(); return n })
	gauge("connected_devices", "Devices with a stream.", func() int { _, n := h.counts(); return n })
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
}
