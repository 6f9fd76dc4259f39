package bind

import (
	"encoding/hex"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/key"
)

var (
	_ conn.Endpoint = (*Endpoint)(nil)
	_ conn.Endpoint = (*relayEndpoint)(nil)
)

// Endpoint is a peer as WireGuard sees it: one object for as long as the peer
// is known, whatever its route. It implements conn.Endpoint.
type Endpoint struct {
	key   key.Public
	route atomic.Pointer[route] // nil: none
	gone  atomic.Bool           // forgotten: another Endpoint may have taken its place

	lastSent, lastReceived atomic.Int64 // nanoseconds after Bind.epoch, 0 never
	lastLarge              atomic.Int64 // likewise: a packet of more than safeSize was sent
	txBytes, rxBytes       atomic.Uint64

	relay   atomic.Uint32 // through which a packet of the peer last came, 0 none
	relayAt atomic.Int64
	relayed atomic.Pointer[[]*relayEndpoint] // one for each relay it was heard on

	confirms atomic.Pointer[handshake] // whose first packets are to be kept
	heardAt  atomic.Int64              // when a packet of the peer last came, by any way
	unsure   atomic.Int64              // until then its paths are in doubt
	fresh    atomic.Pointer[way]       // that what was swallowed is to be sent over; nil: nothing new
	recall   recall                    // of what a dead path may have swallowed

	mu      sync.Mutex // guards the fields below, and changes of route
	newest  *handshake // nil: none yet
	askedAt int64      // when WireGuard was last given an initiation of the peer
}

// Peer returns the key of the peer this is.
func (e *Endpoint) Peer() key.Public { return e.key }

// ClearSrc does nothing: a path has no cached source address.
func (e *Endpoint) ClearSrc() {}

// SrcToString returns nothing, for the same reason.
func (e *Endpoint) SrcToString() string { return "" }

// SrcIP returns the zero address, for the same reason.
func (e *Endpoint) SrcIP() netip.Addr { return netip.Addr{} }

// DstToString returns the text [Bind.ParseEndpoint] takes.
func (e *Endpoint) DstToString() string { return endpointPrefix + e.key.Hex() }

// DstToBytes returns the path's address and port in binary.
func (e *Endpoint) DstToBytes() []byte {
	raw, _ := e.path().MarshalBinary() // never fails
	return raw
}

// DstIP returns the path's address, or the zero address without a path.
func (e *Endpoint) DstIP() netip.Addr { return e.path().Addr() }

// path returns the address of the route's path, or the zero value.
func (e *Endpoint) path() netip.AddrPort { return e.route.Load().pathAddr() }

// maxRelayed bounds the endpoints kept of one peer, one for each relay.
const maxRelayed = 16

// through returns the peer's endpoint at a relay, the same one each time.
func (e *Endpoint) through(relay uint16) *relayEndpoint {
	for {
		old := e.relayed.Load()
		var all []*relayEndpoint
		if old != nil {
			all = *old
		}
		for _, r := range all {
			if r.relay == relay {
				return r
			}
		}
		r := newRelayEndpoint(relay, e.key, e)
		if len(all) >= maxRelayed {
			return r
		}
		more := append(all[:len(all):len(all)], r) // not all: its address would cost each call an allocation
		if e.relayed.CompareAndSwap(old, &more) {
			return r
		}
	}
}

// relayEndpoint is where a packet came from that a relay carried: a peer, by
// the relay's word. What is sent to it goes back through that relay. It never changes.
type relayEndpoint struct {
	relay uint16
	key   key.Public
	peer  *Endpoint // nil: the peer was not known when the packet came
	addr  netip.Addr
}

// newRelayEndpoint derives the address from the peer's key: WireGuard counts
// handshakes by address and binds cookies to it, and members that share a
// relay shall not share a budget. It is one of the block for local addresses
// (RFC 4193), it is the same for all relays, and nothing is ever sent to it.
func newRelayEndpoint(relay uint16, peer key.Public, e *Endpoint) *relayEndpoint {
	var ip [16]byte
	ip[0] = 0xFD
	copy(ip[1:], peer.Bytes())
	return &relayEndpoint{relay: relay, key: peer, peer: e, addr: netip.AddrFrom16(ip)}
}

func (r *relayEndpoint) ClearSrc()           {}
func (r *relayEndpoint) SrcToString() string { return "" }
func (r *relayEndpoint) SrcIP() netip.Addr   { return netip.Addr{} }
func (r *relayEndpoint) DstToString() string {
	return fmt.Sprintf("%s%s via relay %d", endpointPrefix, r.key.Hex(), r.relay)
}
func (r *relayEndpoint) DstToBytes() []byte { return r.addr.AsSlice() }
func (r *relayEndpoint) DstIP() netip.Addr  { return r.addr }

func parseHex(s string) (key.Public, error) {
	raw, err := hex.DecodeString(s)
	if err != nil {
		return key.Public{}, fmt.Errorf("parse endpoint: peer key: %w", err)
	}
	peer, err := key.PublicFromBytes(raw)
	if err != nil {
		return key.Public{}, fmt.Errorf("parse endpoint: %w", err)
	}
	return peer, nil
}
