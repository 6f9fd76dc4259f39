package discovery

import (
	"net/netip"
	"testing"
	"time"

	"nexd/internal/relaypath"
)

// wakeups lets a machine run for d as the agent would, and counts its ticks. Nobody
// answers its checks.
func wakeups(m *machine, now time.Time, d time.Duration, seen func(now time.Time) Activity) (n int) {
	for end := now.Add(d); now.Before(end); n++ {
		m.tick(now, seen(now))
		m.take()
		next := m.next(now)
		if next.IsZero() {
			break
		}
		now = next
	}
	return n
}

// TestWakeups: a machine wakes for what it has to do, not to look whether there is
// something.
func TestWakeups(t *testing.T) {
	begin := time.Unix(1000, 0)
	addr := netip.MustParseAddrPort("192.0.2.1:1")
	for _, x := range []struct {
		name    string
		prepare func(m *machine)
		sends   bool
	}{
		{"a check of a peer nobody here talks to", func(m *machine) {
			m.checked(begin, addr, false)
		}, false},
		{"a direct path that is silent", func(m *machine) {
			m.want(begin)
			m.learn(candidate{Addr: addr, Kind: host, Priority: host.priority(0)}, false)
			m.answered(begin, addr, 10*time.Millisecond)
		}, true},
		{"a direct path that is silent, and slow", func(m *machine) {
			m.want(begin)
			m.learn(candidate{Addr: addr, Kind: host, Priority: host.priority(0)}, false)
			m.answered(begin, addr, time.Second)
		}, true},
		{"a relay through which the peer is silent", func(m *machine) {
			m.want(begin)
			m.setRelays([]relayTarget{{number: 1, up: true}})
			m.relay(begin)
			if m.best == nil || relaypath.Number(m.best.Addr) != 1 {
				t.Fatal("it does not take the relay")
			}
		}, true},
	} {
		m := newMachine(begin, nil, nil, topMTU)
		x.prepare(m)
		const d = 20 * time.Second
		n := wakeups(m, begin, d, func(now time.Time) Activity {
			if !x.sends {
				return Activity{}
			}
			return Activity{Sent: now.Truncate(time.Second)}
		})
		// The grid, and as many for checks, their repetition and the round.
		if most := 3 * int(d/pollActive); n > most {
			t.Errorf("%s: %d wake-ups in %s, at most %d are of use", x.name, n, d, most)
		}
	}
}

// TestPatience: one answer that came very late does not make a path be waited for
// much longer when it is silent.
func TestPatience(t *testing.T) {
	begin := time.Unix(1000, 0)
	addr := netip.MustParseAddrPort("192.0.2.1:1")
	m := newMachine(begin, nil, nil, 0)
	m.setRelays([]relayTarget{{number: 1, up: true}})
	m.want(begin)
	m.learn(candidate{Addr: addr, Kind: host, Priority: host.priority(0)}, false)
	m.answered(begin, addr, askedFor)
	if !m.direct() {
		t.Fatal("the answer does not count")
	}
	const patience = 15 * time.Second
	wakeups(m, begin, patience, func(now time.Time) Activity { return Activity{Sent: now} })
	if m.direct() {
		t.Errorf("%v at a path that was silent for %s", m.state(), patience)
	}
}
