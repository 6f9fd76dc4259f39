package netstack

import (
	"hash/maphash"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

const (
	// ackDelay is how long a bare acknowledgement waits for data to travel with.
	// RFC 9293 section 3.8.6.3 allows 500 ms and Linux takes 40; what answers at all
	// soon on the host behind a proxy does so within this.
	ackDelay = 2 * time.Millisecond
	// ackAtOnce is how many bytes may be acknowledged late: less than two full
	// segments at the least MTU, the second of which must be acknowledged at once
	// (RFC 5681 section 4.2).
	ackAtOnce = 2 * (MinMTU - 80)
	// ackSlots is how many connections are known at a time; of those whose hashes
	// meet the one heard last is.
	ackSlots = 256
	// plainOptions is the length of TCP options without SACK: timestamps at most.
	plainOptions = 12
)

// acks holds back bare acknowledgements for a moment. gVisor acknowledges every
// segment as it comes; most answers follow at once and say the same.
//
// An acknowledgement that must be seen is never held: of the second full segment,
// of data out of order (SACK, or the same number again), one that changes nothing
// but the window, or the first on a connection. None waits longer than the first
// of those whose place it takes.
type acks struct {
	send func(*stack.PacketBuffer) // must not block
	seed maphash.Seed

	mu      sync.Mutex // guards the fields below
	slots   [ackSlots]ackSlot
	holding int
	timer   *time.Timer
	armed   bool
	closed  bool
}

// ackSlot is what is known of one connection's own direction.
type ackSlot struct {
	flow  uint64              // hash of its addresses and ports; 0: none
	acked uint32              // what was acknowledged last
	held  *stack.PacketBuffer // one reference; nil: none
	due   time.Time           // of held
}

func newAcks(send func(*stack.PacketBuffer)) *acks {
	a := &acks{send: send, seed: maphash.MakeSeed()}
	a.timer = time.AfterFunc(time.Hour, a.expire)
	a.timer.Stop()
	return a
}

// hold takes a packet that is about to leave, and reports whether it keeps it. A
// packet that leaves takes the place of one that is held on its connection.
func (a *acks) hold(pkt *stack.PacketBuffer) bool {
	transport := pkt.TransportHeader().Slice()
	if pkt.TransportProtocolNumber != header.TCPProtocolNumber || len(transport) < header.TCPMinimumSize {
		return false
	}
	tcp := header.TCP(transport)
	flow := max(1, flowHash(a.seed, pkt))
	now := tcp.AckNumber()

	a.mu.Lock()
	slot := &a.slots[flow%ackSlots]
	if slot.flow != flow {
		other := a.releaseLocked(slot)
		*slot = ackSlot{flow: flow, acked: now}
		a.mu.Unlock()
		a.sendOne(other)
		return false
	}
	before := a.releaseLocked(slot)
	late := now - slot.acked
	keep := !a.closed && tcp.Flags() == header.TCPFlagAck && pkt.Data().Size() == 0 && len(tcp.Options()) <= plainOptions &&
		late > 0 && late < ackAtOnce
	if before != nil && ackNumber(before) == now {
		keep = false // it says something else
	}
	if keep {
		if before == nil { // otherwise the wait has begun
			slot.due = time.Now().Add(ackDelay)
		}
		slot.held = pkt.IncRef()
		a.holding++
		if !a.armed {
			a.armed = true
			a.timer.Reset(ackDelay)
		}
	} else {
		slot.acked = now
	}
	a.mu.Unlock()
	if before != nil {
		before.DecRef() // pkt says what it said
	}
	return keep
}

func ackNumber(pkt *stack.PacketBuffer) uint32 {
	return header.TCP(pkt.TransportHeader().Slice()).AckNumber()
}

// releaseLocked takes what a slot holds out of it.
func (a *acks) releaseLocked(slot *ackSlot) *stack.PacketBuffer {
	pkt := slot.held
	if pkt != nil {
		slot.held = nil
		a.holding--
	}
	return pkt
}

func (a *acks) sendOne(pkt *stack.PacketBuffer) {
	if pkt != nil {
		a.send(pkt)
		pkt.DecRef()
	}
}

// expire sends what is due.
func (a *acks) expire() { a.flush(time.Now()) }

// flush sends what is due at a time.
func (a *acks) flush(until time.Time) {
	var out []*stack.PacketBuffer
	a.mu.Lock()
	a.armed = false
	var next time.Time
	for i := 0; i < len(a.slots) && a.holding > 0; i++ {
		slot := &a.slots[i]
		switch {
		case slot.held == nil:
		case slot.due.After(until):
			if next.IsZero() || slot.due.Before(next) {
				next = slot.due
			}
		default:
			slot.acked = ackNumber(slot.held)
			out = append(out, a.releaseLocked(slot))
		}
	}
	if !next.IsZero() {
		a.armed = true
		a.timer.Reset(time.Until(next))
	}
	a.mu.Unlock()
	for _, pkt := range out {
		a.sendOne(pkt)
	}
}

// flushAll sends everything that is held.
func (a *acks) flushAll() { a.flush(time.Now().Add(ackDelay)) }

// close throws away what is held, and holds nothing any more.
func (a *acks) close() {
	a.mu.Lock()
	a.closed = true
	a.timer.Stop()
	var left []*stack.PacketBuffer
	for i := range a.slots {
		if pkt := a.releaseLocked(&a.slots[i]); pkt != nil {
			left = append(left, pkt)
		}
	}
	a.mu.Unlock()
	for _, pkt := range left {
		pkt.DecRef()
	}
}
