package portmap

import (
	"net/netip"
	"time"
)

const (
	// firstRetry and lastRetry are the shortest and the longest wait after a
	// round in which no gateway gave a mapping; it doubles in between.
	firstRetry = time.Minute
	lastRetry  = 30 * time.Minute
	// minRenew is the shortest wait between renewals.
	minRenew = 20 * time.Second
	// wokenAfter is the shortest wait between a round and one that a change of
	// the network causes, heardAfter one that anybody on it can cause.
	wokenAfter = time.Second
	heardAfter = 10 * time.Second
)

// keeper knows when to ask the gateway. It does no I/O: what happened goes in
// with the time it happened.
//
//	           granted            renewal refused, or expired
//	(nothing) ─────────▶ (mapped) ─────────────────────────▶ (nothing)
//	  ▲   │ again after    ▲   │ again at half of the time;
//	  └───┘ 1 … 30 min     └───┘ in silence at half of what is left
type keeper struct {
	port     uint16         // inside, of the mapping; 0: there is none
	external netip.AddrPort // outside, of the mapping
	expires  time.Time
	due      time.Time // of the next round; the zero value: now
	asked    time.Time // when the last round ended
	failures int       // since the last mapping
}

// granted notes a mapping: it is renewed at half its time.
func (k *keeper) granted(port uint16, m mapping, now time.Time) {
	*k = keeper{port: port, external: m.external, expires: now.Add(m.lifetime), asked: now}
	k.due = now.Add(max(m.lifetime/2, minRenew))
}

// refused notes a round without a mapping. One that was granted lives until it
// expires, or is dropped.
func (k *keeper) refused(now time.Time) {
	k.asked = now
	if k.port != 0 {
		k.due = now.Add(max(k.expires.Sub(now)/2, minRenew))
		return
	}
	k.due = now.Add(min(firstRetry<<min(k.failures, 10), lastRetry))
	k.failures++
}

// useless notes that a mapping would be of no use for some time.
func (k *keeper) useless(now time.Time) {
	*k = keeper{asked: now, due: now.Add(lastRetry)}
}

// drop forgets the mapping.
func (k *keeper) drop() { k.port, k.external, k.expires = 0, netip.AddrPort{}, time.Time{} }

// woken has the next round soon: the network changed.
func (k *keeper) woken(now time.Time) { k.failures = 0; k.hurry(now, wokenAfter) }

// heard has the next round soon: a gateway announced itself.
func (k *keeper) heard(now time.Time) { k.hurry(now, heardAfter) }

func (k *keeper) hurry(now time.Time, after time.Duration) {
	due := now
	if soonest := k.asked.Add(after); !k.asked.IsZero() && soonest.After(now) {
		due = soonest
	}
	if due.Before(k.due) {
		k.due = due
	}
}

// expire forgets a mapping whose time is over, and reports whether it did.
func (k *keeper) expire(now time.Time) bool {
	if k.port == 0 || now.Before(k.expires) {
		return false
	}
	k.drop()
	return true
}

// next is when something is to be done.
func (k *keeper) next() time.Time {
	if k.port != 0 && k.expires.Before(k.due) {
		return k.expires
	}
	return k.due
}
