// Package stunmetrics shows what a STUN server counts to Prometheus, by the same
// names wherever it runs: in the control service, beside a relay, or alone.
package stunmetrics

import (
	"github.com/prometheus/client_golang/prometheus"

	"nexd/internal/opsport"
	"nexd/internal/stunserver"
)

// New shows what stats says when the metrics are read; several goroutines may.
// queued tells how many packets were dropped before the server read them, where
// it shares the port with a relay; nil: the port is its own.
func New(stats func() stunserver.Stats, queued func() uint64) prometheus.Collector {
	return collector{stats, queued}
}

type collector struct {
	stats  func() stunserver.Stats
	queued func() uint64
}

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("nexd_stun_"+name, help, labels, nil)
}

var (
	requests = desc("requests_total", "STUN binding requests.")
	answers  = desc("answers_total", "Answers to STUN binding requests, by result.", "result")
	dropped  = desc("dropped_total", "Packets to the STUN port that got no answer, by reason.", "reason")
)

// Describe implements prometheus.Collector.
func (collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{requests, answers, dropped} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	st := c.stats()
	opsport.Counter(out, requests, st.Requests)
	opsport.Counter(out, answers, st.Answers, "address")
	opsport.Counter(out, answers, st.Errors, "error")
	opsport.Counter(out, dropped, st.Junk, "junk")
	opsport.Counter(out, dropped, st.Limited, "limited")
	opsport.Counter(out, dropped, st.WriteErrors, "send")
	if c.queued != nil {
		opsport.Counter(out, dropped, c.queued(), "queue")
	}
}
