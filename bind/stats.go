package bind

import (
	"errors"
	"net/netip"
	"sync/atomic"
	"syscall"
)

// class is a kind of path.
type class uint8

const (
	direct4 class = iota
	direct6
	relayUDP
	relayTLS
	classes
)

func directClass(a netip.AddrPort) class {
	if a.Addr().Is4() {
		return direct4
	}
	return direct6
}

// Stats counts what passed the socket and the relays and what did not, since New.
type Stats struct {
	// Packets received, by what they were; those that came in a relay's frame count, too.
	WireGuard, STUN, Offers uint64
	// RelayFrames are the datagrams that began like a relay's frame.
	RelayFrames uint64
	// Dropped: frames where there are no relays, and what is nothing of ours.
	DroppedRelay, DroppedGarbage uint64
	// Dropped: packets the ring had no room for, and those that came to an extra
	// socket from elsewhere than its remote address.
	DroppedRing, DroppedForeign uint64
	// Failed reads of the socket.
	ReceiveErrors uint64
	// Handshake messages that had to wait for a path, were sent when one
	// appeared, and waited in vain (a newer one came, or it got too old).
	Held, Flushed, Expired uint64
	// Moved are handshake messages that went over a new address because the
	// route changed before an answer; Repeated are packets sent again because no
	// answer came in time: handshake messages, and the first ones of a session.
	Moved, Repeated uint64
	// Handshake messages WireGuard did not get: a peer's initiations that gave
	// way to ours, and copies of what it had.
	Crossed, Copies uint64
	// Recalled are packets sent again over a new path since the old one may have
	// swallowed them.
	Recalled uint64
	// Packets dropped because their peer had no path.
	DroppedNoPath uint64
	// Packets that went over both addresses of a route, and those that did not
	// though the route asked for it: 2 MB had gone over both.
	Doubled, NotDoubled uint64
	// Packets a relay did not take: no session, or no room.
	RelayRefused uint64
	// Packets the system refused to send, by reason.
	SendErrors SendErrors
	// WireGuard's packets by kind of path.
	Paths Paths
}

// Paths counts WireGuard's packets by kind of path. One that was sent twice counts twice.
type Paths struct {
	Direct4, Direct6, RelayUDP, RelayTLS PathStats
}

// PathStats counts packets and their bytes, without IP, UDP and relay headers.
type PathStats struct {
	TxPackets, TxBytes, RxPackets, RxBytes uint64
}

// SendErrors counts packets the system did not take.
type SendErrors struct {
	Unreachable uint64 // no route, or the next hop does not answer
	Denied      uint64 // a firewall of this host
	Full        uint64 // buffers
	TooBig      uint64 // for the path's MTU
	Refused     uint64 // by the other side, in answer to an earlier packet
	Address     uint64 // an address or family this host does not have
	Other       uint64
}

type counters struct {
	wireGuard, stun, offers           atomic.Uint64
	frames, unwanted, garbage         atomic.Uint64
	receiveErrors, ring, foreign      atomic.Uint64
	held, flushed, expired, noPath    atomic.Uint64
	moved, repeated, crossed, copies  atomic.Uint64
	recalled                          atomic.Uint64
	doubled, notDoubled, relayRefused atomic.Uint64

	tx, rx [classes]traffic

	unreachable, denied, full, tooBig, refused, address, other atomic.Uint64
}

// traffic counts one class of path in one direction.
type traffic struct {
	packets, bytes atomic.Uint64
	_              [48]byte // a cache line of its own
}

func (t *traffic) add(packets, bytes int) {
	t.packets.Add(uint64(packets))
	t.bytes.Add(uint64(bytes))
}

// tally counts the datagrams of one batch.
type tally struct {
	stun, frames, garbage uint64
	paths                 [classes]struct{ packets, bytes int }
}

func (c *counters) received(t *tally) {
	for i := range t.paths {
		if n := t.paths[i].packets; n > 0 {
			c.wireGuard.Add(uint64(n))
			c.rx[i].add(n, t.paths[i].bytes)
		}
	}
	for _, part := range [...]struct {
		counter *atomic.Uint64
		n       uint64
	}{{&c.stun, t.stun}, {&c.frames, t.frames}, {&c.garbage, t.garbage}} {
		if part.n > 0 {
			part.counter.Add(part.n)
		}
	}
}

// sendError counts packets under the reason of err and reports whether it is
// the first time that reason is seen.
func (c *counters) sendError(err error, packets int) (first bool) {
	counter := &c.other
	var errno syscall.Errno
	if errors.As(err, &errno) {
		switch errno {
		case syscall.ENETUNREACH, syscall.EHOSTUNREACH, syscall.ENETDOWN, syscall.EHOSTDOWN:
			counter = &c.unreachable
		case syscall.EPERM, syscall.EACCES:
			counter = &c.denied
		case syscall.ENOBUFS, syscall.EAGAIN, syscall.ENOMEM:
			counter = &c.full
		case syscall.EMSGSIZE:
			counter = &c.tooBig
		case syscall.ECONNREFUSED:
			counter = &c.refused
		case syscall.EINVAL, syscall.EADDRNOTAVAIL, syscall.EAFNOSUPPORT:
			counter = &c.address
		}
	}
	return counter.Add(uint64(packets)) == uint64(packets)
}

// Stats returns the counters.
func (b *Bind) Stats() Stats {
	c := &b.count
	return Stats{
		WireGuard:      c.wireGuard.Load(),
		STUN:           c.stun.Load(),
		Offers:         c.offers.Load(),
		RelayFrames:    c.frames.Load(),
		DroppedRelay:   c.unwanted.Load(),
		DroppedGarbage: c.garbage.Load(),
		DroppedRing:    c.ring.Load(),
		DroppedForeign: c.foreign.Load(),
		ReceiveErrors:  c.receiveErrors.Load(),
		Held:           c.held.Load(),
		Flushed:        c.flushed.Load(),
		Expired:        c.expired.Load(),
		Moved:          c.moved.Load(),
		Repeated:       c.repeated.Load(),
		Recalled:       c.recalled.Load(),
		Crossed:        c.crossed.Load(),
		Copies:         c.copies.Load(),
		DroppedNoPath:  c.noPath.Load(),
		Doubled:        c.doubled.Load(),
		NotDoubled:     c.notDoubled.Load(),
		RelayRefused:   c.relayRefused.Load(),
		Paths: Paths{
			Direct4:  c.path(direct4),
			Direct6:  c.path(direct6),
			RelayUDP: c.path(relayUDP),
			RelayTLS: c.path(relayTLS),
		},
		SendErrors: SendErrors{
			Unreachable: c.unreachable.Load(),
			Denied:      c.denied.Load(),
			Full:        c.full.Load(),
			TooBig:      c.tooBig.Load(),
			Refused:     c.refused.Load(),
			Address:     c.address.Load(),
			Other:       c.other.Load(),
		},
	}
}

func (c *counters) path(k class) PathStats {
	return PathStats{
		TxPackets: c.tx[k].packets.Load(),
		TxBytes:   c.tx[k].bytes.Load(),
		RxPackets: c.rx[k].packets.Load(),
		RxBytes:   c.rx[k].bytes.Load(),
	}
}
