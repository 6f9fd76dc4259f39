package controlapi

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"nexd/key"
)

// Roles of registration keys: what they make members of the service.
const (
	RoleDevice = ""      // devices of the network
	RoleRelay  = "relay" // stand-alone relays, which serve every network of the service
)

// RelayProofLabel keeps the secret of a relay's join proof apart from other uses of its key.
const RelayProofLabel = "nexd relay join proof v1"

const (
	// MaxHomes is how many relays a device may publish.
	MaxHomes = 4
	// MaxRelayUDP is how many UDP addresses a relay may name.
	MaxRelayUDP = 8
)

// RelayHeartbeatInterval is how often a stand-alone relay reports. The service
// takes one for gone that missed four of them.
const RelayHeartbeatInterval = 30 * time.Second

// Homes are the relays a device keeps sessions with.
type Homes struct {
	Relays []string `json:"relays" maxItems:"4" doc:"ids: its home first, then the one it falls back to"`
}

// RelayAddress is where a stand-alone relay says that it is reached. Unlike in
// a [Relay], every host is named: a relay need not live beside the service.
type RelayAddress struct {
	UDP []string `json:"udp,omitempty" maxItems:"8" doc:"host:port"`
	URL string   `json:"url,omitempty" maxLength:"512" doc:"https://HOST:PORT/PATH of its WebSocket; empty: only UDP"`
	Pin Pin      `json:"pin,omitempty" maxLength:"64" doc:"of the certificate behind url; empty: the usual authorities vouch for it"`
}

// RelayJoinRequest registers a stand-alone relay. The same public key, proved
// again, is the same relay: it keeps its id and gets a new credential.
type RelayJoinRequest struct {
	RegKey    string     `json:"reg_key" maxLength:"256" doc:"secret part of a registration key whose role is relay"`
	PublicKey key.Public `json:"public_key" doc:"the relay's X25519 key, base64"`
	Token     string     `json:"token" maxLength:"1024" doc:"token of the challenge"`
	Proof     []byte     `json:"proof" doc:"HMAC-SHA256 over the transcript, 32 bytes"`
	Name      string     `json:"name" maxLength:"63" doc:"a DNS label, unique among the service's relays"`
	RelayAddress
	Version string `json:"version,omitempty" maxLength:"64"`
}

// Transcript is what the proof covers, each with its length before it (4 bytes,
// big endian).
func (r RelayJoinRequest) Transcript() []byte {
	var b []byte
	for _, field := range append([]string{
		r.Token, string(r.PublicKey.Bytes()), r.RegKey, r.Name, r.URL, string(r.Pin),
	}, r.UDP...) {
		b = binary.BigEndian.AppendUint32(b, uint32(len(field)))
		b = append(b, field...)
	}
	return b
}

// RelayJoinResponse makes the relay one of the service's. Credential is its own
// secret from now on; the registration key is not needed again.
type RelayJoinResponse struct {
	ID         string   `json:"id"`
	Name       string   `json:"name"`
	Credential string   `json:"credential" doc:"bearer token of PUT /v1/relays/self"`
	Issuers    [][]byte `json:"issuers" doc:"Ed25519 public keys that sign credentials of devices, 32 bytes each"`
}

// RelayHeartbeat is what a stand-alone relay reports, every
// [RelayHeartbeatInterval] and when something in it changes.
type RelayHeartbeat struct {
	RelayAddress
	// Draining: it will end soon and admits nobody. Devices are told of the
	// others alone a few seconds later; the relay itself asks its clients to go.
	Draining bool   `json:"draining,omitempty"`
	Since    uint64 `json:"since,omitempty" doc:"next of the last answer; 0: none yet"`
	Version  string `json:"version,omitempty" maxLength:"64"`
}

// RelayHeartbeatAnswer is what the relay has to know.
type RelayHeartbeatAnswer struct {
	Issuers [][]byte `json:"issuers" doc:"Ed25519 public keys, 32 bytes each"`
	// Denied are the devices that were deleted since.
	Denied []RelayDenied `json:"denied"`
	Next   uint64        `json:"next" doc:"since of the next heartbeat"`
	// More: there are further ones: ask again at once.
	More bool `json:"more,omitempty"`
}

// RelayDenied is a device that was deleted while a credential of it may still
// be valid. Those that expire at Until or before do not count; a later one was
// given after the device had joined again. The entry may be forgotten a few
// minutes after Until.
type RelayDenied struct {
	Network []byte     `json:"network" doc:"the network's id towards relays, 16 bytes"`
	Device  key.Public `json:"device"`
	Until   time.Time  `json:"until" doc:"whole seconds"`
}

// RelayInfo is a relay as an administrator sees it.
type RelayInfo struct {
	Relay
	Embedded bool `json:"embedded" doc:"part of the service's own process"`
	// Listed says whether devices are told of it now.
	Listed   bool      `json:"listed" doc:"heard of lately and not draining"`
	Draining bool      `json:"draining,omitempty"`
	Devices  int       `json:"devices" doc:"whose home it is"`
	Version  string    `json:"version,omitempty"`
	Created  time.Time `json:"created,omitzero"`
	LastSeen time.Time `json:"last_seen,omitzero"`
	RegKeyID string    `json:"reg_key_id,omitempty"`
}

// RelayInfoList lists the relays of the service.
type RelayInfoList struct {
	Relays []RelayInfo `json:"relays"`
}

// At returns the relay as seen by a device that knows the service by
// serviceURL: nothing in it is relative any more.
func (r Relay) At(serviceURL string) (Relay, error) {
	u, err := url.Parse(serviceURL)
	if err != nil || u.Hostname() == "" {
		return Relay{}, fmt.Errorf("service URL %q: want https://HOST:PORT", shown(serviceURL))
	}
	udp := make([]string, 0, len(r.UDP))
	for _, text := range r.UDP {
		host, port, err := net.SplitHostPort(text)
		if err != nil || !portFits(port) || port == "" {
			return Relay{}, fmt.Errorf("relay %s: UDP address %q: want HOST:PORT", shown(r.ID), shown(text))
		}
		if host == "" {
			host = u.Hostname()
		}
		udp = append(udp, net.JoinHostPort(host, port))
	}
	r.UDP = udp
	if strings.HasPrefix(r.URL, "/") {
		r.URL = strings.TrimRight(u.String(), "/") + r.URL
	}
	return r, nil
}

// Check reports what is wrong with an address.
func (a RelayAddress) Check() error {
	switch {
	case len(a.UDP) == 0 && a.URL == "":
		return fmt.Errorf("relay without an address: name a UDP address or a URL")
	case len(a.UDP) > MaxRelayUDP:
		return fmt.Errorf("relay with %d UDP addresses: at most %d", len(a.UDP), MaxRelayUDP)
	case a.Pin != "" && a.URL == "":
		return fmt.Errorf("relay with a pin and no URL: the pin is of the certificate behind the URL")
	}
	for _, text := range a.UDP {
		if err := checkHostPort(text); err != nil {
			return err
		}
	}
	if a.URL != "" {
		if len(a.URL) > 512 {
			return fmt.Errorf("relay URL is longer than 512 characters")
		}
		if _, err := ParseServiceURL(a.URL); err != nil {
			return fmt.Errorf("relay URL: want https://HOST:PORT/PATH, not %q", shown(a.URL))
		}
	}
	return a.Pin.check()
}

// checkHostPort holds text to HOST:PORT with a host that can be sent to.
func checkHostPort(text string) error {
	host, port, err := net.SplitHostPort(text)
	if err != nil || port == "" || !portFits(port) || net.JoinHostPort(host, port) != text { // brackets are for IPv6
		return fmt.Errorf("relay UDP address %q: want HOST:PORT (IPv6 as [2001:db8::1]:3478)", shown(text))
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if ip.IsUnspecified() || ip.IsMulticast() || ip.Zone() != "" {
			return fmt.Errorf("relay UDP address %q: nobody can send to that host: name the one clients reach the relay by", shown(text))
		}
		return nil
	}
	if !isHostName(host) {
		return fmt.Errorf("relay UDP address %q: want an IP address or a DNS name before the port", shown(text))
	}
	return nil
}

// isHostName reports whether host is a DNS name in ASCII (RFC 1123).
func isHostName(host string) bool {
	host = strings.TrimSuffix(host, ".")
	if host == "" || len(host) > 253 {
		return false
	}
	for label := range strings.SplitSeq(host, ".") {
		if CheckName(strings.ToLower(label)) != nil {
			return false
		}
	}
	return true
}
