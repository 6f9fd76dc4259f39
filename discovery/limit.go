package discovery

import "time"

// limit is a token bucket that begins full.
type limit struct {
	rate, burst float64 // tokens per second, tokens at most
	tokens      float64
	last        time.Time
}

func newLimit(rate, burst float64) limit { return limit{rate: rate, burst: burst, tokens: burst} }

// take takes one token, if there is one.
func (l *limit) take(now time.Time) bool {
	if !l.last.IsZero() {
		l.tokens = min(l.tokens+l.rate*max(now.Sub(l.last).Seconds(), 0), l.burst)
	}
	l.last = now
	if l.tokens < 1 {
		return false
	}
	l.tokens--
	return true
}

// giveBack returns a token that was not needed.
func (l *limit) giveBack() { l.tokens = min(l.tokens+1, l.burst) }
