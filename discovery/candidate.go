package discovery

import (
	"fmt"
	"net/netip"
	"time"

	"nexd/internal/relaypath"
)

// maxCandidates is how many addresses of one peer are known at a time, and how
// many of our own an offer holds.
const maxCandidates = 16

// kind of a candidate, in the words of RFC 8445.
type kind uint8

const (
	_         kind = iota
	host           // an address of the machine
	reflexive      // what a STUN server sees
	static         // given by a person (--endpoint)
	prflx          // peer-reflexive: learnt from a verified check
	old            // a hint from an earlier life
	mapped         // a port mapping of the gateway (PCP, NAT-PMP, UPnP)
	predicted      // what a hard NAT may choose next
	relayed        // through a relay; never offered as an address
)

func (k kind) String() string {
	switch k {
	case host:
		return "host"
	case reflexive:
		return "server-reflexive"
	case static:
		return "static"
	case prflx:
		return "peer-reflexive"
	case old:
		return "hint"
	case mapped:
		return "mapped"
	case predicted:
		return "predicted"
	case relayed:
		return "relay"
	}
	return fmt.Sprintf("kind(%d)", uint8(k))
}

// preference is the type preference of RFC 8445 section 5.1.2.2.
func (k kind) preference() uint32 {
	switch k {
	case host:
		return 126
	case static:
		return 120
	case mapped:
		return 115
	case prflx:
		return 110
	case reflexive:
		return 100
	case predicted:
		return 60
	default:
		return 50
	}
}

// priority is RFC 8445 section 5.1.2.1 for the one component there is.
func (k kind) priority(local uint16) uint32 {
	return k.preference()<<24 | uint32(local)<<8 | 255
}

// candidate is an address that is offered.
type candidate struct {
	Addr     netip.AddrPort
	Kind     kind
	Priority uint32
}

// target is an address of a peer with what is known about it.
type target struct {
	candidate
	near  bool         // on a network of ours: no NAT in between
	relay *relayTarget // nil: an address of the peer's own

	asked  time.Time // the last check sent
	checks int       // sent
	pong   time.Time // the last verified answer; zero: never
	rtts   [8]time.Duration
	n      int    // answers so far
	wins   int    // answers in a row with a lower cost than the best path
	size   *sizer // nil: it was never the path, or no sizes are looked for
}

// maxRTT is what a path without an answer counts as.
const maxRTT = time.Second

// rtt is the least of the last eight round trips.
func (t *target) rtt() time.Duration {
	if t.n == 0 {
		return maxRTT
	}
	least := t.rtts[0]
	for _, r := range t.rtts[:min(t.n, len(t.rtts))] {
		least = min(least, r)
	}
	return least
}

// answered notes a round trip.
func (t *target) answered(now time.Time, rtt time.Duration) {
	t.rtts[t.n%len(t.rtts)] = max(rtt, 0)
	t.n++
	t.pong = now
}

// cost orders paths: the round trip, and a millisecond for public IPv4, whose
// NATs forget.
func (t *target) cost() time.Duration {
	if t.relay != nil && t.relay.tls {
		return t.rtt() + penaltyTLS
	} else if t.relay != nil {
		return t.rtt() + penaltyUDP
	}
	if t.near || t.Addr.Addr().Is6() || t.Addr.Addr().IsPrivate() {
		return t.rtt()
	}
	return t.rtt() + time.Millisecond
}

// usable reports whether packets may be sent to addr at all. Loopback is
// decided by the caller.
func usable(addr netip.AddrPort, exclude func(netip.Addr) bool) bool {
	ip := addr.Addr()
	switch {
	case !ip.IsValid(), addr.Port() == 0, ip.Is4In6(), ip.Zone() != "":
		return false
	case ip.IsUnspecified(), ip.IsMulticast(), ip.IsLinkLocalUnicast(), ip == broadcast:
		return false
	case ip.Is4() && (ip.As4()[0] == 0 || ip.As4()[0] >= 240):
		return false // "this network" and reserved (RFC 6890)
	}
	return !relaypath.Is(ip) && (exclude == nil || !exclude(ip))
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// unmap gives an address the one form it is compared in.
func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}
