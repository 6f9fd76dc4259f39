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
	if len(st.Relays) > 0 {
		fmt.Fprintln(t)
		relayTable(t, st.Relays)
	}
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

// relayTable has a line for each relay.
func relayTable(t *tables, list []localapi.RelayStatus) {
	rows := make([][]string, 0, len(list))
	for _, r := range list {
		at := r.URL
		if r.Transport == localapi.TransportUDP || at == "" && r.UDP.IsValid() {
			at = r.UDP.String()
		}
		connected := "no"
		if r.Connected {
			connected = r.Transport
		}
		rows = append(rows, []string{r.Name, role(r.Home, r.Standby), connected, at, milliseconds(r.RTTMillis), r.Error})
	}
	t.table([]string{"RELAY", "ROLE", "CONNECTED", "ADDRESS", "RTT", "ERROR"}, rows)
}

// role of a relay for this device.
func role(home, standby bool) string {
	switch {
	case home:
		return "home"
	case standby:
		return "standby"
	}
	return ""
}

// pathText is a path in a few words: direct 192.0.2.1:7, or relay NAME (udp).
func pathText(p localapi.PathStatus) string { return strings.TrimSpace(p.Kind + " " + via(p)) }

// via is where packets of a path go.
func via(p localapi.PathStatus) string {
	switch {
	case p.Kind != localapi.PathRelay:
		return p.Endpoint
	case p.Transport == "":
		return p.Relay
	}
	return fmt.Sprintf("%s (%s)", p.Relay, p.Transport)
}

// pathFacts is a path with its round trip.
func pathFacts(p localapi.PathStatus) string {
	text := pathText(p)
	if rtt := milliseconds(p.RTTMillis); rtt != "" {
		text += ", " + rtt
	}
	return text
}

// mtuText is a size of packets; nothing where it is not known.
func mtuText(mtu int) string {
	if mtu == 0 {
		return ""
	}
	return strconv.Itoa(mtu)
}

// peerTable has a line for each peer.
func peerTable(t *tables, peers []localapi.PeerStatus, now time.Time) {
	rows := make([][]string, 0, len(peers))
	for _, p := range peers {
		rows = append(rows, []string{
			p.Name, addresses(p.Addresses), p.Path.Kind, via(p.Path), milliseconds(p.Path.RTTMillis), mtuText(p.MTU),
			ago(p.LastHandshake, now), size(int64(p.TxBytes)), size(int64(p.RxBytes)),
		})
	}
	t.table([]string{"PEER", "ADDRESSES", "PATH", "ENDPOINT", "RTT", "MTU", "HANDSHAKE", "SENT", "RECEIVED"}, rows)
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
