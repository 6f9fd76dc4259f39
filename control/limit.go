package control

import (
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// limiter is a token bucket per key in a table of bounded size. When the table
// is full of keys that are busy, further keys share one bucket: a flood of
// sources slows other newcomers, and costs no memory.
type limiter[K comparable] struct {
	rate Rate
	max  int

	mu     sync.Mutex // guards the fields below
	byKey  map[K]*rate.Limiter
	shared *rate.Limiter
	swept  time.Time
}

func newLimiter[K comparable](r Rate, max int) *limiter[K] {
	return &limiter[K]{rate: r, max: max, byKey: map[K]*rate.Limiter{}, shared: r.bucket()}
}

func (r Rate) bucket() *rate.Limiter { return rate.NewLimiter(rate.Limit(r.PerSecond), r.Burst) }

// take returns 0 when the event may happen now, and else the time to wait.
func (l *limiter[K]) take(k K, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	b, ok := l.byKey[k]
	if !ok {
		b = l.shared
		if len(l.byKey) >= l.max {
			l.sweep(now)
		}
		if len(l.byKey) < l.max {
			b = l.rate.bucket()
			l.byKey[k] = b
		}
	}
	return takeFrom(b, now)
}

// sweep forgets the keys whose bucket is full again, at most once a second.
func (l *limiter[K]) sweep(now time.Time) {
	if now.Sub(l.swept) < time.Second {
		return
	}
	l.swept = now
	for k, b := range l.byKey {
		if b.TokensAt(now) >= float64(l.rate.Burst) {
			delete(l.byKey, k)
		}
	}
}

func takeFrom(b *rate.Limiter, now time.Time) time.Duration {
	r := b.ReserveN(now, 1)
	wait := r.DelayFrom(now)
	if wait > 0 {
		r.CancelAt(now)
	}
	return wait
}

// joinLimit holds back joins by source and altogether.
type joinLimit struct {
	bySource *limiter[netip.Prefix]
	all      *rate.Limiter
}

func newJoinLimit(source, all Rate) *joinLimit {
	return &joinLimit{bySource: newLimiter[netip.Prefix](source, 4096), all: all.bucket()}
}

func (l *joinLimit) take(remote string, now time.Time) time.Duration {
	if wait := l.bySource.take(sourceOf(remote), now); wait > 0 {
		return wait
	}
	return takeFrom(l.all, now)
}

// sourceOf is the address of a client, of IPv6 its /64: one host has all of it.
func sourceOf(remote string) netip.Prefix {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return netip.Prefix{}
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Prefix{}
	}
	addr = addr.Unmap().WithZone("")
	bits := addr.BitLen()
	if addr.Is6() {
		bits = 64
	}
	p, _ := addr.Prefix(bits)
	return p
}
