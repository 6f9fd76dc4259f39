package controlclient

import (
	"testing"
	"time"
)

func TestApart(t *testing.T) {
	clock := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	for _, x := range []struct{ from, to, want time.Duration }{
		{0, 10 * time.Millisecond, 0},
		{-5 * time.Millisecond, 5 * time.Millisecond, 0},
		{990 * time.Millisecond, 1010 * time.Millisecond, 0},
		{time.Hour, time.Hour + time.Millisecond, time.Hour - time.Second},
		{-time.Hour, -time.Hour + time.Millisecond, -time.Hour + time.Millisecond},
	} {
		if got := apart(clock.Add(x.from), clock.Add(x.to), clock); got != x.want {
			t.Errorf("from %s to %s: %s, want %s", x.from, x.to, got, x.want)
		}
	}
}
