package localapi

import (
	"net/netip"
	"time"
)

// Limits of a netcheck.
const (
	MaxServers = 16 // STUN servers
	MaxRelays  = 64
)

// Netcheck is the document of `nexctl nexd netcheck`: what this host's network
// lets through, as it was measured.
type Netcheck struct {
	Schema int       `json:"schema"`
	At     time.Time `json:"at"`
	UDP    UDPCheck  `json:"udp"`
	// IPv6 says that an interface has a global address.
	IPv6        bool             `json:"ipv6"`
	NAT         NATCheck         `json:"nat"`
	STUN        []STUNCheck      `json:"stun"`
	PortMapping PortMappingCheck `json:"port_mapping"`
	// OwnCandidates are the addresses this device offers its peers.
	OwnCandidates []OwnCandidate `json:"own_candidates"`
	Relays        []RelayCheck   `json:"relays"`
	Service       ServiceCheck   `json:"service"`
	Clock         ClockCheck     `json:"clock"`
}

// UDPCheck says over which family somebody outside answered by UDP.
type UDPCheck struct {
	IPv4 bool `json:"ipv4"`
	IPv6 bool `json:"ipv6"`
}

// NATCheck is the mapping behaviour of what lies between (RFC 4787).
type NATCheck struct {
	Kind        string `json:"kind"` // open, easy, hard, blocked or unknown
	Explanation string `json:"explanation"`
}

// STUNCheck is one server's answer.
type STUNCheck struct {
	Server string `json:"server"`
	// Mapped is this device as the server sees it; empty: it did not answer.
	Mapped    netip.AddrPort `json:"mapped"`
	RTTMillis float64        `json:"rtt_ms"` // 0: not measured
}

// PortMappingCheck is what the router said when it was asked for a port.
type PortMappingCheck struct {
	Enabled  bool           `json:"enabled"`  // it is asked at all
	Protocol string         `json:"protocol"` // that worked; empty: none did
	External netip.AddrPort `json:"external"`
	Error    string         `json:"error"` // why there is none
}

// RelayCheck is a relay as it is reached from here.
type RelayCheck struct {
	ID      string   `json:"id"`
	Name    string   `json:"name"`
	URL     string   `json:"url"`
	Home    bool     `json:"home"`
	Standby bool     `json:"standby"`
	UDP     LegCheck `json:"udp"`
	TLS     LegCheck `json:"tls"`
}

// LegCheck is one transport to a relay.
type LegCheck struct {
	Tried     bool    `json:"tried"`
	OK        bool    `json:"ok"`
	RTTMillis float64 `json:"rtt_ms"` // 0: not measured
	Error     string  `json:"error"`
}

// ServiceCheck is the control service as it is reached from here.
type ServiceCheck struct {
	URL       string  `json:"url"`
	Connected bool    `json:"connected"`
	RTTMillis float64 `json:"rtt_ms"` // of one request; 0: not measured
	Error     string  `json:"error"`
}

// ClockCheck compares this host's clock with the service's.
type ClockCheck struct {
	Known bool `json:"known"`
	// AheadMillis is this clock minus the service's; negative: it is behind.
	AheadMillis float64 `json:"ahead_ms"`
}
