package opsport

import "github.com/prometheus/client_golang/prometheus"

// Gauge sends a value of now, for a collector that reads its daemon when it is asked.
func Gauge(out chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

// Counter sends a count since the daemon's start.
func Counter(out chan<- prometheus.Metric, d *prometheus.Desc, v uint64, labels ...string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

// Flag is a gauge's value for yes and no: 1 and 0.
func Flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
