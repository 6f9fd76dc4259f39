package state

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"nexd/controlapi"
	"nexd/key"
)

// Version is the version of the file this package writes, and the newest it reads.
const Version = 1

// Data is the content of a store. It holds secrets; it does not print them.
type Data struct {
	Version    int            // of the file it came from; [Store.Update] sets it
	PrivateKey key.Private    // the device's identity; zero before it is made
	ListenPort uint16         // the random UDP port, remembered; 0 before it is chosen
	ServiceURL string         // the service joined; empty before
	Pin        controlapi.Pin // of the service's certificate
	Credential string         // the device's own secret towards the service
	Ephemeral  bool           // the device is an ephemeral member
	Map        *controlapi.Map
	Rules      []Rule // added at run time, in order
	Hints      []Hint // where peers were last reached

	RemovedRules []Rule // declared elsewhere and removed at run time
}

// Rule is a rule as text. The store does not parse it, so that a rule another
// version understands does not make the whole file unreadable.
type Rule struct {
	Direction string `json:"direction"` // "ingress" or "egress"
	Rule      string `json:"rule"`
}

// Hint remembers addresses at which a peer was reached.
type Hint struct {
	Peer  key.Public       `json:"peer"`
	Addrs []netip.AddrPort `json:"addrs"`
	Seen  time.Time        `json:"seen"`
}

// Clone returns a copy that shares nothing with d.
func (d Data) Clone() Data {
	d.Map = cloneMap(d.Map)
	d.Rules = slices.Clone(d.Rules)
	d.RemovedRules = slices.Clone(d.RemovedRules)
	d.Hints = slices.Clone(d.Hints)
	for i := range d.Hints {
		d.Hints[i].Addrs = slices.Clone(d.Hints[i].Addrs)
	}
	return d
}

func cloneMap(m *controlapi.Map) *controlapi.Map {
	if m == nil {
		return nil
	}
	c := *m
	c.Self = cloneDevice(m.Self)
	c.Network.CIDRs = slices.Clone(m.Network.CIDRs)
	c.Peers = slices.Clone(m.Peers)
	for i := range c.Peers {
		c.Peers[i] = cloneDevice(c.Peers[i])
	}
	c.STUN = slices.Clone(m.STUN)
	c.Relays.Relays = slices.Clone(m.Relays.Relays)
	for i := range c.Relays.Relays {
		c.Relays.Relays[i].UDP = slices.Clone(c.Relays.Relays[i].UDP)
	}
	c.Relays.Credential = slices.Clone(m.Relays.Credential)
	return &c
}

func cloneDevice(d controlapi.Device) controlapi.Device {
	d.Addresses = slices.Clone(d.Addresses)
	d.Tags = slices.Clone(d.Tags)
	d.Relays = slices.Clone(d.Relays)
	return d
}

// summary is what may be shown of the content.
func (d Data) summary() string {
	device := "no device"
	if !d.PrivateKey.IsZero() {
		device = "device " + d.PrivateKey.Public().Short()
	}
	return fmt.Sprintf("(state of %s, service %q)", device, d.ServiceURL)
}

// String, GoString, Format, LogValue and MarshalText hide the secrets.
func (d Data) String() string               { return d.summary() }
func (d Data) GoString() string             { return d.summary() }
func (d Data) Format(f fmt.State, _ rune)   { fmt.Fprint(f, d.summary()) }
func (d Data) LogValue() slog.Value         { return slog.StringValue(d.summary()) }
func (d Data) MarshalText() ([]byte, error) { return []byte(d.summary()), nil }
