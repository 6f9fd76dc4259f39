package relay

import (
	"hash/maphash"
	"net/netip"
	"sync/atomic"
	"time"
)

// rate is how much may pass: so much a second, and so much at once after a pause.
type rate struct {
	cost  int64 // what one unit takes, in 1/tick nanoseconds; 0: no limit
	burst int64 // likewise
}

// tick divides a nanosecond, so that gigabytes a second are not rounded away;
// a clock that began with the relay lasts for four years of it.
const tick = 64

// perSecond returns a rate of n units a second; n ≤ 0 is no limit.
func perSecond(n, burst int64) rate {
	if n <= 0 {
		return rate{}
	}
	cost := max(int64(time.Second)*tick/n, 1)
	return rate{cost: cost, burst: max(burst, 1) * cost}
}

// bucket is a token bucket kept as the one time at which it would be full
// again (GCRA): one word, no lock.
type bucket struct{ full atomic.Int64 }

// take takes n units, or none and says false. now is in nanoseconds since the
// relay began.
func (b *bucket) take(r rate, n, now int64) bool {
	if r.cost == 0 {
		return true
	}
	now *= tick
	for {
		old := b.full.Load()
		full := max(old, now) + n*r.cost
		if full-now > r.burst {
			return false
		}
		if b.full.CompareAndSwap(old, full) {
			return true
		}
	}
}

// sourceBuckets is the size of the table of sources.
const sourceBuckets = 4096

// sources holds a bucket per source prefix in a table of fixed size; prefixes
// with the same hash share one, and nobody can choose with whom.
type sources struct {
	seed    maphash.Seed
	buckets []bucket
}

func newSources() *sources {
	return &sources{seed: maphash.MakeSeed(), buckets: make([]bucket, sourceBuckets)}
}

// of returns the bucket of an IPv4 address or an IPv6 /64.
func (s *sources) of(a netip.Addr) *bucket {
	raw := a.As16()
	if a.Is6() && !a.Is4In6() {
		clear(raw[8:])
	}
	return &s.buckets[maphash.Bytes(s.seed, raw[:])%sourceBuckets]
}
