package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"nexd/bind"
	"nexd/localapi"
)

// ops serves the operator's port: is it alive, is it ready, what does it do.
type ops struct {
	listener net.Listener
	server   *http.Server
}

// listenOps opens the port; run serves it.
func listenOps(addr string, n *Node) (*ops, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, &UsageError{Message: fmt.Sprintf("--ops-listen: %v", err), Hint: "choose another address or port"}
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), nodeCollector{n})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		st := n.Status()
		w.Header().Set("Content-Type", "application/json")
		if !st.Ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		json.NewEncoder(w).Encode(map[string]any{"ready": st.Ready, "state": st.State, "reasons": st.Reasons})
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	return &ops{listener: l, server: &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
	}}, nil
}

// run serves until ctx ends.
func (o *ops) run(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { o.server.Close() })()
	if err := o.server.Serve(o.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the operator's port: %w", err)
	}
	return nil
}

// nodeCollector turns the status document into metrics when they are asked for.
type nodeCollector struct{ n *Node }

var (
	descReady      = prometheus.NewDesc("nexd_ready", "1 when joined, the tunnel is up and every rule listens.", nil, nil)
	descConnected  = prometheus.NewDesc("nexd_service_connected", "1 while the control service's stream is there.", nil, nil)
	descPeers      = prometheus.NewDesc("nexd_peers", "Members of the mesh by the path that reaches them.", []string{"path"}, nil)
	descPeerBytes  = prometheus.NewDesc("nexd_tunnel_bytes_total", "Bytes of WireGuard packets by direction.", []string{"direction"}, nil)
	pathLabels     = []string{"path", "direction"}
	descPathBytes  = prometheus.NewDesc("nexd_path_bytes_total", "Bytes of WireGuard packets by kind of path and direction.", pathLabels, nil)
	descPathPkts   = prometheus.NewDesc("nexd_path_packets_total", "WireGuard packets by kind of path and direction.", pathLabels, nil)
	descDoubled    = prometheus.NewDesc("nexd_doubled_packets_total", "Packets that went over two paths at once, in doubt about one.", nil, nil)
	descRelayUp    = prometheus.NewDesc("nexd_relay_connected", "1 while there is a session with the relay.", []string{"relay", "role"}, nil)
	descChecks     = prometheus.NewDesc("nexd_path_checks_total", "Connectivity checks sent.", nil, nil)
	descRefused    = prometheus.NewDesc("nexd_path_dropped_total", "Packets about paths that came and were not believed, or over a budget.", []string{"reason"}, nil)
	ruleLabels     = []string{"direction", "rule"}
	descRuleUp     = prometheus.NewDesc("nexd_rule_listening", "1 while the rule listens.", ruleLabels, nil)
	descRuleActive = prometheus.NewDesc("nexd_rule_connections", "Open connections and flows.", ruleLabels, nil)
	descRuleTotal  = prometheus.NewDesc("nexd_rule_connections_total", "Connections and flows since the rule was declared.", ruleLabels, nil)
	descRuleIn     = prometheus.NewDesc("nexd_rule_bytes_in_total", "Bytes from the clients to the destination.", ruleLabels, nil)
	descRuleOut    = prometheus.NewDesc("nexd_rule_bytes_out_total", "Bytes from the destination to the clients.", ruleLabels, nil)
)

// Describe implements prometheus.Collector.
func (c nodeCollector) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(c, ch) }

// Collect implements prometheus.Collector.
func (c nodeCollector) Collect(ch chan<- prometheus.Metric) {
	st := c.n.Status()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, v, labels...)
	}
	gauge(descReady, truth(st.Ready))
	gauge(descConnected, truth(st.Service.Connected))
	paths := map[string]int{localapi.PathDirect: 0, localapi.PathRelay: 0, localapi.PathNone: 0}
	for _, p := range st.Peers {
		paths[p.Path.Kind]++
	}
	for kind, count := range paths {
		gauge(descPeers, float64(count), kind)
	}
	tx, rx := c.n.tunnelBytes()
	counter(descPeerBytes, float64(tx), "sent")
	counter(descPeerBytes, float64(rx), "received")
	c.collectPaths(st, gauge, counter)
	for _, r := range st.Rules {
		labels := []string{r.Direction, r.Rule}
		gauge(descRuleUp, truth(r.State != localapi.RuleFailed), labels...)
		gauge(descRuleActive, float64(r.Active), labels...)
		counter(descRuleTotal, float64(r.Total), labels...)
		counter(descRuleIn, float64(r.BytesIn), labels...)
		counter(descRuleOut, float64(r.BytesOut), labels...)
	}
}

// collectPaths tells how packets travel.
func (c nodeCollector) collectPaths(st localapi.Status, gauge, counter func(d *prometheus.Desc, v float64, labels ...string)) {
	for _, r := range st.Relays {
		role := "other"
		switch {
		case r.Home:
			role = "home"
		case r.Standby:
			role = "standby"
		}
		gauge(descRelayUp, truth(r.Connected), r.Name, role)
	}
	pl := c.n.dataPlane()
	if pl == nil {
		return
	}
	b, a := pl.bind.Stats(), pl.agent.Stats()
	for _, p := range []struct {
		name string
		bind.PathStats
	}{
		{"direct_ipv4", b.Paths.Direct4},
		{"direct_ipv6", b.Paths.Direct6},
		{"relay_udp", b.Paths.RelayUDP},
		{"relay_tls", b.Paths.RelayTLS},
	} {
		counter(descPathBytes, float64(p.TxBytes), p.name, "sent")
		counter(descPathBytes, float64(p.RxBytes), p.name, "received")
		counter(descPathPkts, float64(p.TxPackets), p.name, "sent")
		counter(descPathPkts, float64(p.RxPackets), p.name, "received")
	}
	counter(descDoubled, float64(b.Doubled))
	counter(descChecks, float64(a.Checks))
	counter(descRefused, float64(a.Unverified), "unverified")
	counter(descRefused, float64(a.Replayed), "replayed")
	counter(descRefused, float64(a.Limited), "limited")
	counter(descRefused, float64(a.Dropped), "queue")
}

// tunnelBytes adds up what passed between this node and everybody.
func (n *Node) tunnelBytes() (tx, rx uint64) {
	n.mu.Lock()
	pl := n.plane
	n.mu.Unlock()
	if pl == nil {
		return 0, 0
	}
	for _, s := range pl.tunnel.Stats() {
		tx, rx = tx+s.Tx, rx+s.Rx
	}
	return tx, rx
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
