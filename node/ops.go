package node

import (
	"cmp"

	"github.com/prometheus/client_golang/prometheus"

	"nexd/bind"
	"nexd/internal/opsport"
	"nexd/internal/sockerr"
	"nexd/localapi"
)

// listenOps opens the operator's port; its Run serves it.
func listenOps(addr string, n *Node) (*opsport.Port, error) {
	port, err := opsport.Listen(addr, opsport.Config{
		Readiness: func() opsport.Readiness {
			st := n.Status()
			return opsport.Readiness{Ready: st.Ready, State: st.State, Reasons: st.Reasons}
		},
		Collect: []prometheus.Collector{nodeCollector{n}},
	})
	if err != nil {
		why := sockerr.Listen("--ops-listen", addr, err)
		return nil, &UsageError{Message: why.Message, Hint: cmp.Or(why.Advice, "choose another address or port")}
	}
	return port, nil
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
	descPadded     = prometheus.NewDesc("nexd_path_mtu_checks_total", "Connectivity checks padded to find how large packets may be.", nil, nil)
	descMTU        = prometheus.NewDesc("nexd_path_mtu_changes_total", "Times the largest packet to a peer became another.", []string{"direction"}, nil)
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
	opsport.Gauge(ch, descReady, opsport.Flag(st.Ready))
	opsport.Gauge(ch, descConnected, opsport.Flag(st.Service.Connected))
	paths := map[string]int{localapi.PathDirect: 0, localapi.PathRelay: 0, localapi.PathNone: 0}
	for _, p := range st.Peers {
		paths[p.Path.Kind]++
	}
	for kind, count := range paths {
		opsport.Gauge(ch, descPeers, float64(count), kind)
	}
	tx, rx := c.n.tunnelBytes()
	opsport.Counter(ch, descPeerBytes, tx, "sent")
	opsport.Counter(ch, descPeerBytes, rx, "received")
	c.collectPaths(ch, st)
	for _, r := range st.Rules {
		labels := []string{r.Direction, r.Rule}
		opsport.Gauge(ch, descRuleUp, opsport.Flag(r.State != localapi.RuleFailed), labels...)
		opsport.Gauge(ch, descRuleActive, float64(r.Active), labels...)
		opsport.Counter(ch, descRuleTotal, uint64(r.Total), labels...)
		opsport.Counter(ch, descRuleIn, uint64(r.BytesIn), labels...)
		opsport.Counter(ch, descRuleOut, uint64(r.BytesOut), labels...)
	}
}

// collectPaths tells how packets travel.
func (c nodeCollector) collectPaths(ch chan<- prometheus.Metric, st localapi.Status) {
	for _, r := range st.Relays {
		role := "other"
		switch {
		case r.Home:
			role = "home"
		case r.Standby:
			role = "standby"
		}
		opsport.Gauge(ch, descRelayUp, opsport.Flag(r.Connected), r.Name, role)
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
		opsport.Counter(ch, descPathBytes, p.TxBytes, p.name, "sent")
		opsport.Counter(ch, descPathBytes, p.RxBytes, p.name, "received")
		opsport.Counter(ch, descPathPkts, p.TxPackets, p.name, "sent")
		opsport.Counter(ch, descPathPkts, p.RxPackets, p.name, "received")
	}
	opsport.Counter(ch, descDoubled, b.Doubled)
	opsport.Counter(ch, descChecks, a.Checks)
	opsport.Counter(ch, descPadded, a.Padded)
	opsport.Counter(ch, descMTU, a.MTURaised, "raised")
	opsport.Counter(ch, descMTU, a.MTULowered, "lowered")
	opsport.Counter(ch, descRefused, a.Unverified, "unverified")
	opsport.Counter(ch, descRefused, a.Replayed, "replayed")
	opsport.Counter(ch, descRefused, a.Limited, "limited")
	opsport.Counter(ch, descRefused, a.Dropped, "queue")
}

// tunnelBytes adds up what passed between this node and everybody.
func (n *Node) tunnelBytes() (tx, rx uint64) {
	pl := n.dataPlane()
	if pl == nil {
		return 0, 0
	}
	for _, s := range pl.tunnel.Stats() {
		tx, rx = tx+s.Tx, rx+s.Rx
	}
	return tx, rx
}
