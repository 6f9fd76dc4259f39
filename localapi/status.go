package localapi

import (
	"net/netip"
	"time"

	"nexd/key"
)

// Schema is the version of the JSON documents of this package. Fields are only
// ever added within one version.
const Schema = 1

// States of a daemon.
const (
	StateStarting = "starting"
	StateJoining  = "joining"
	StateRunning  = "running"
	StateOffline  = "offline" // the service cannot be reached; the data plane goes on
	StateDraining = "draining"
)

// Kinds of a peer's path.
const (
	PathDirect = "direct"
	PathRelay  = "relay"
	PathNone   = "none"
)

// Transports of this device's own leg to a relay.
const (
	TransportUDP = "udp"
	TransportTLS = "tls"
)

// States of a rule.
const (
	RuleListening = "listening"
	RuleDegraded  = "degraded" // listens, but a destination cannot be dialled
	RuleFailed    = "failed"   // does not listen; Error says why, it is retried
)

// Status is the document of `nexctl nexd status --output json`.
type Status struct {
	Schema  int           `json:"schema"`
	Version string        `json:"version"`
	State   string        `json:"state"`
	Ready   bool          `json:"ready"`
	Reasons []string      `json:"reasons"`
	Device  DeviceStatus  `json:"device"`
	Service ServiceStatus `json:"service"`
	NAT     NATStatus     `json:"nat"`
	Relays  []RelayStatus `json:"relays"`
	Peers   []PeerStatus  `json:"peers"`
	Rules   []RuleStatus  `json:"rules"`
}

// DeviceStatus is this device.
type DeviceStatus struct {
	Name      string       `json:"name"`
	ID        string       `json:"id"`
	PublicKey key.Public   `json:"public_key"`
	Addresses []netip.Addr `json:"addresses"`
}

// ServiceStatus is the connection to the control service.
type ServiceStatus struct {
	URL       string    `json:"url"`
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since,omitzero"`
}

// NATStatus is what discovery learnt about the way to the internet.
type NATStatus struct {
	Kind   string           `json:"kind"`
	Mapped []netip.AddrPort `json:"mapped"`
	UDP    bool             `json:"udp"`
}

// RelayStatus is the connection to a relay.
type RelayStatus struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	URL       string    `json:"url"` // where it takes TLS; empty: nowhere
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since,omitzero"` // of Connected
	// RTTMillis is of the session, or as it was last probed; 0: not known.
	RTTMillis float64 `json:"rtt_ms"`
	Home      bool    `json:"home"`
	Standby   bool    `json:"standby"`
	// Transport of the session, udp or tls; empty without one.
	Transport string         `json:"transport"`
	UDP       netip.AddrPort `json:"udp"`   // where it takes UDP; empty: not known
	Error     string         `json:"error"` // why there is no session
}

// PeerStatus is another member.
type PeerStatus struct {
	Name          string       `json:"name"`
	ID            string       `json:"id"`
	PublicKey     key.Public   `json:"public_key"`
	Addresses     []netip.Addr `json:"addresses"`
	Path          PathStatus   `json:"path"`
	MTU           int          `json:"mtu"` // of packets to it inside the tunnel, in bytes; 0: it was never talked to
	LastHandshake time.Time    `json:"last_handshake,omitzero"`
	TxBytes       uint64       `json:"tx_bytes"`
	RxBytes       uint64       `json:"rx_bytes"`
}

// PathStatus is how packets reach a peer. Transport is that of this device's
// leg to the relay; it is empty for a direct path.
type PathStatus struct {
	Kind      string    `json:"kind"`
	Endpoint  string    `json:"endpoint"`
	Relay     string    `json:"relay"` // its name
	Transport string    `json:"transport"`
	RTTMillis float64   `json:"rtt_ms"`
	Since     time.Time `json:"since,omitzero"`
}

// RuleStatus is one declared rule.
type RuleStatus struct {
	Direction string `json:"direction"`
	Rule      string `json:"rule"`
	State     string `json:"state"`
	Error     string `json:"error"`
	Active    int64  `json:"active"`
	Total     int64  `json:"total"`
	BytesIn   int64  `json:"bytes_in"`
	BytesOut  int64  `json:"bytes_out"`
}
