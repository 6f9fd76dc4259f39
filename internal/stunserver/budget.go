package stunserver

import (
	"hash/maphash"
	"net/netip"
	"time"
)

// budget is a token bucket; the zero time is long ago, so it begins full.
type budget struct {
	rate, burst float64
	tokens      float64
	last        time.Time
}

func (b *budget) take(now time.Time) bool {
	if d := now.Sub(b.last); d > 0 || b.last.IsZero() {
		b.tokens = min(b.tokens+b.rate*d.Seconds(), b.burst)
		b.last = now
	}
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// sourceBuckets is the size of the table of sources: 8192 of 40 bytes.
const sourceBuckets = 8192

// sources holds one budget per source prefix, in a table of fixed size: two
// prefixes with the same hash share a budget. The hash has a secret seed, so
// nobody can choose with whom.
type sources struct {
	seed    maphash.Seed
	buckets []budget
}

func newSources() sources {
	s := sources{seed: maphash.MakeSeed(), buckets: make([]budget, sourceBuckets)}
	for i := range s.buckets {
		s.buckets[i] = budget{rate: sourceRate, burst: sourceBurst}
	}
	return s
}

func (s *sources) take(a netip.Addr, now time.Time) bool {
	if a.Is6() {
		// One customer has at least a /64.
		if p, err := a.Prefix(64); err == nil {
			a = p.Addr()
		}
	}
	raw := a.As16()
	return s.buckets[maphash.Bytes(s.seed, raw[:])%sourceBuckets].take(now)
}
