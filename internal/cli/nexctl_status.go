package cli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"nexd/localapi"
)

// showStatus prints a status for people.
func showStatus(t *tables, st localapi.Status, now time.Time) {
	state := st.State
	if st.Ready {
		state += ", ready"
	} else {
		state += ", not ready"
	}
	service := st.Service.URL
	switch {
	case service == "":
	case st.Service.Connected:
		service += ", connected for " + span(now.Sub(st.Service.Since))
	default:
		service += ", not connected"
	}
	pairs := []string{"State", state}
	for _, r := range st.Reasons {
		pairs = append(pairs, "", r)
	}
	pairs = append(pairs,
		"Device", st.Device.Name,
		"Addresses", addresses(st.Device.Addresses),
		"Public key", st.Device.PublicKey.String(),
		"Service", service,
		"NAT", natText(st.NAT),
		"Version", st.Version,
	)
	t.facts(pairs...)
	if len(st.Peers) > 0 {
		fmt.Fprintln(t)
		peerTable(t, st.Peers, now)
	}
	if len(st.Rules) > 0 {
		fmt.Fprintln(t)
		ruleTable(t, st.Rules)
	}
}

func natText(n localapi.NATStatus) string {
	var parts []string
	if n.Kind != "" {
		parts = append(parts, n.Kind)
	}
	for _, m := range n.Mapped {
		parts = append(parts, m.String())
	}
	if !n.UDP {
		parts = append(parts, "no UDP seen")
	}
	return strings.Join(parts, ", ")
}

// peerTable has a line for each peer.
func peerTable(t *tables, peers []localapi.PeerStatus, now time.Time) {
	rows := make([][]string, 0, len(peers))
	for _, p := range peers {
		via := p.Path.Endpoint
		if p.Path.Kind == localapi.PathRelay {
			via = p.Path.Relay
		}
		rows = append(rows, []string{
			p.Name, addresses(p.Addresses), p.Path.Kind, via, milliseconds(p.Path.RTTMillis),
			ago(p.LastHandshake, now), size(int64(p.TxBytes)), size(int64(p.RxBytes)),
		})
	}
	t.table([]string{"PEER", "ADDRESSES", "PATH", "ENDPOINT", "RTT", "HANDSHAKE", "SENT", "RECEIVED"}, rows)
}

// ruleTable has a line for each rule.
func ruleTable(t *tables, list []localapi.RuleStatus) {
	rows := make([][]string, 0, len(list))
	for _, r := range list {
		rows = append(rows, []string{
			r.Direction, r.Rule, r.State, strconv.FormatInt(r.Active, 10), strconv.FormatInt(r.Total, 10),
			size(r.BytesIn), size(r.BytesOut), r.Error,
		})
	}
	t.table([]string{"DIRECTION", "RULE", "STATE", "ACTIVE", "TOTAL", "IN", "OUT", "ERROR"}, rows)
}
