package bind

import (
	"errors"
	"sync/atomic"
	"syscall"
)

// Stats counts what passed the socket and what did not, since New.
type Stats struct {
	// Datagrams received, by what they were.
	WireGuard, STUN uint64
	// Received and dropped: frames of a relay, and what is nothing of ours.
	DroppedRelay, DroppedGarbage uint64
	// Failed reads of the socket.
	ReceiveErrors uint64
	// Handshake messages that had to wait for a path, were sent when one
	// appeared, and waited in vain (a newer one came, or it got too old).
	Held, Flushed, Expired uint64
	// Handshake messages sent again because the path changed before an answer.
	Repeated uint64
	// Packets dropped because their peer had no path.
	DroppedNoPath uint64
	// Packets the system refused to send, by reason.
	SendErrors SendErrors
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
	wireGuard, stun, relay, garbage atomic.Uint64
	receiveErrors                   atomic.Uint64
	held, flushed, expired, noPath  atomic.Uint64
	repeated                        atomic.Uint64

	unreachable, denied, full, tooBig, refused, address, other atomic.Uint64
}

func (c *counters) received(wireGuard, stun, relay, garbage uint64) {
	for _, part := range [...]struct {
		counter *atomic.Uint64
		n       uint64
	}{{&c.wireGuard, wireGuard}, {&c.stun, stun}, {&c.relay, relay}, {&c.garbage, garbage}} {
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
		DroppedRelay:   c.relay.Load(),
		DroppedGarbage: c.garbage.Load(),
		ReceiveErrors:  c.receiveErrors.Load(),
		Held:           c.held.Load(),
		Flushed:        c.flushed.Load(),
		Expired:        c.expired.Load(),
		Repeated:       c.repeated.Load(),
		DroppedNoPath:  c.noPath.Load(),
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
