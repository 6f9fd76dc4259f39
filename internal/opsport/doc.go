// Package opsport is the operator's port of a daemon, plain HTTP: is it alive
// (/healthz), is it ready (/readyz), what does it do (/metrics, for Prometheus).
// It knows nothing of the daemon but what [Config] says. [Gauge] and [Counter] are
// for collectors that read the daemon's own counters when they are asked.
package opsport
