package netwatch

import (
	"sync/atomic"
	"time"
)

const (
	// quietTime is how long nothing must happen before changes are reported.
	quietTime = 50 * time.Millisecond
	// gatherTime is how long the first of them waits at most.
	gatherTime = 500 * time.Millisecond
)

// reason is why the network may have changed; a greater one outweighs a lesser.
type reason uint8

const (
	reasonRoute reason = iota + 1
	reasonAddress
	reasonLink
	reasonResume
)

func (r reason) String() string {
	switch r {
	case reasonResume:
		return Resume
	case reasonLink:
		return Link
	case reasonAddress:
		return Address
	case reasonRoute:
		return Route
	default:
		return "unknown"
	}
}

// burst gathers changes that come together.
type burst struct {
	first, last time.Time // of the changes that were not reported
	why         reason    // 0: there are none
}

// add notes a change; 0 is none.
func (b *burst) add(r reason, now time.Time) {
	switch {
	case r == 0:
		return
	case b.why == 0:
		b.first = now
	}
	b.last, b.why = now, max(b.why, r)
}

// due says when to report; false: there is nothing.
func (b *burst) due() (time.Time, bool) {
	at, limit := b.last.Add(quietTime), b.first.Add(gatherTime)
	if at.After(limit) {
		at = limit
	}
	return at, b.why != 0
}

// take returns what is due, once.
func (b *burst) take(now time.Time) (reason, bool) {
	if at, ok := b.due(); !ok || now.Before(at) {
		return 0, false
	}
	r := b.why
	*b = burst{}
	return r, true
}

// news are changes on their way from one goroutine to another: the weightiest
// of those that were not taken.
type news struct {
	why  atomic.Uint32 // a reason, or 0
	poke chan struct{} // of one; filled after why was set
}

func (n *news) put(r reason) {
	for {
		old := n.why.Load()
		if n.why.CompareAndSwap(old, max(old, uint32(r))) {
			break
		}
	}
	select {
	case n.poke <- struct{}{}:
	default:
	}
}

// take returns 0 when the news were taken with an earlier poke.
func (n *news) take() reason { return reason(n.why.Swap(0)) }
