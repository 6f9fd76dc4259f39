package discovery

import (
	"net/netip"
	"testing"
	"time"
)

func TestGauge(t *testing.T) {
	at := netip.MustParseAddrPort
	for _, x := range []struct {
		a, b string
		want uint16
	}{
		{"203.0.113.1:40000", "203.0.113.1:40001", 1},
		{"203.0.113.1:40000", "203.0.113.1:40008", 8},
		{"203.0.113.1:40000", "203.0.113.1:40009", 0},
		{"203.0.113.1:40001", "203.0.113.1:40000", 0},
		{"203.0.113.1:40000", "203.0.113.1:40000", 0},
		{"203.0.113.1:40000", "203.0.113.2:40001", 0},
	} {
		if got := stepBetween(at(x.a), at(x.b)); got != x.want {
			t.Errorf("%s, %s: step %d, want %d", x.a, x.b, got, x.want)
		}
	}
	now := time.Now()
	g := gauge{ended: now, step: 4, last: at("203.0.113.1:65520")}
	if got := g.predicted(now); len(got) != 3 || got[0].Port() != 65524 || got[2].Port() != 65532 {
		t.Errorf("predicted %v", got)
	}
	if got := g.predicted(now.Add(time.Minute)); got != nil {
		t.Errorf("predicted %v, a minute later", got)
	}
}

func TestGuesserKeepsItsPace(t *testing.T) {
	start := time.Now()
	g := newGuesser(netip.MustParseAddr("203.0.113.1"), start)
	seen := map[uint16]bool{}
	for now := start; g.next() != (time.Time{}); now = now.Add(3 * time.Millisecond) {
		if to, due := g.tick(now); due {
			if seen[to.Port()] || to.Port() < firstPort {
				t.Fatalf("port %d", to.Port())
			}
			seen[to.Port()] = true
			if now.Sub(start) == 3*time.Second {
				now = now.Add(time.Second) // the loop was busy
			}
		}
		if n := now.Sub(start)/guessPace + 1; len(seen) > int(n) {
			t.Fatalf("%d guesses after %s", len(seen), now.Sub(start))
		}
	}
	if len(seen) != maxGuesses {
		t.Errorf("%d guesses", len(seen))
	}
}
