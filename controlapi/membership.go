package controlapi

import (
	"net/netip"

	"nexd/key"
)

// Device is a member as other members see it: the slow-changing facts.
type Device struct {
	ID        string       `json:"id"`
	Name      string       `json:"name"`
	PublicKey key.Public   `json:"public_key"`
	Addresses []netip.Addr `json:"addresses" doc:"IPv4 first, then IPv6"`
	Tags      []string     `json:"tags,omitempty"`
	Ephemeral bool         `json:"ephemeral,omitempty"`
	// Relays are the ids of the relays the device keeps sessions with: its home
	// first, then the one it falls back to.
	Relays []string `json:"relays,omitempty"`
}

// Relay carries sealed packets between devices that cannot reach each other.
type Relay struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	PublicKey key.Public `json:"public_key"`
	// UDP lists host:port; an empty host stands for that of the service URL the
	// device itself uses.
	UDP []string `json:"udp,omitempty"`
	// URL is where it takes WebSocket clients: https://HOST:PORT/PATH, or a path
	// below the service URL the device itself uses. Empty: only UDP.
	URL string `json:"url,omitempty"`
	// Pin is the key of its certificate. Empty: the usual authorities vouch for
	// it, or, where URL is a path, whatever vouches for the service.
	Pin Pin `json:"pin,omitempty"`
}

// RelayList is the relays a device may use, and what admits it there.
type RelayList struct {
	Relays     []Relay `json:"relays"`
	Credential []byte  `json:"credential" doc:"signed by the service; docs/relay.md has its bytes"`
}

// Network is the mesh a device belongs to.
type Network struct {
	ID    string         `json:"id"`
	Name  string         `json:"name"`
	CIDRs []netip.Prefix `json:"cidrs" doc:"IPv4 range and IPv6 ULA /64 addresses are given from"`
	// Domain is the suffix of device names, without a leading dot.
	Domain string `json:"domain"`
}

// Map is everything a device is told of its network at one revision.
type Map struct {
	Epoch    string   `json:"epoch" doc:"changes when revisions start anew (another database)"`
	Revision uint64   `json:"revision"`
	Self     Device   `json:"self"`
	Network  Network  `json:"network"`
	Peers    []Device `json:"peers"`
	// STUN lists the service's own STUN servers as host:port. An empty host
	// stands for the host of the service URL the device itself uses.
	STUN []string `json:"stun,omitempty"`
	// Relays is the newest list; it comes in events of its own and is kept here.
	Relays RelayList `json:"relays,omitzero"`
}

// EventType says which part of an [Event] is set.
type EventType string

const (
	EventSnapshot  EventType = "snapshot"  // Map: replaces all that was known
	EventDelta     EventType = "delta"     // Delta: changes up to Revision
	EventHeartbeat EventType = "heartbeat" // nothing changed; Revision is current
	EventSignal    EventType = "signal"    // Signal from another member
	EventRelays    EventType = "relays"    // Relays: the whole list, with a fresh credential
	EventBye       EventType = "bye"       // the service ends the stream; Reason says why
)

// Event is one line of the watch stream (newline-delimited JSON).
type Event struct {
	Type     EventType  `json:"type"`
	Revision uint64     `json:"revision,omitempty"`
	Map      *Map       `json:"map,omitempty"`
	Delta    *Delta     `json:"delta,omitempty"`
	Signal   *Signal    `json:"signal,omitempty"`
	Relays   *RelayList `json:"relays,omitempty"`
	Reason   string     `json:"reason,omitempty"`
}

// Reasons of a bye. After ByeShutdown the device connects again; after
// ByeDeleted its credential is void; ByeReplaced means that a newer stream of
// the same device took over.
const (
	ByeShutdown = "shutdown"
	ByeDeleted  = "deleted"
	ByeReplaced = "replaced"
)

// Delta changes a [Map]. Upsert holds whole devices, new or changed; Self is
// set when the device's own record changed.
type Delta struct {
	Self   *Device  `json:"self,omitempty"`
	Upsert []Device `json:"upsert,omitempty"`
	Remove []string `json:"remove,omitempty" doc:"ids"`
}

// MaxSignal is the largest payload of a signal, in bytes.
const MaxSignal = 4096

// Signal is a sealed message between two members. The service reads nothing in
// it, keeps nothing, and delivers it only to a member that is connected now.
// In a request To is set; in an event From is, by the service.
type Signal struct {
	To      key.Public `json:"to,omitzero"`
	From    key.Public `json:"from,omitzero"`
	Payload []byte     `json:"payload" maxLength:"5464" doc:"sealed end to end, base64, at most 4096 bytes"`
}

// SignalResult says whether the other member was connected.
type SignalResult struct {
	Delivered bool `json:"delivered"`
}
