package discovery

import (
	"net/netip"
	"testing"
	"time"
)

// TestOverslept: a path is not doubted for what it did not answer while this
// process did not run, and is as soon as it ran for long enough.
func TestOverslept(t *testing.T) {
	begin := time.Unix(1000, 0)
	path := &target{candidate: candidate{Addr: netip.MustParseAddrPort("192.0.2.1:1")}}
	a := &Agent{active: make(map[*peer]struct{})}
	m := newMachine(begin, nil, nil, 0)
	m.targets = append(m.targets, path)
	m.answered(begin, path.Addr, 10*time.Millisecond)
	a.active[&peer{session: &session{machine: m}}] = struct{}{}

	now := begin.Add(activePing)
	data := Activity{Sent: now}
	m.tick(now, data)
	if m.asked.IsZero() {
		t.Fatal("the path is not checked")
	}
	a.planned = now.Add(minRTO / 2)
	asleep := time.Second
	now = a.planned.Add(asleep)
	a.forgive(now)
	m.tick(now, data)
	if m.state() != Direct {
		t.Fatalf("%v after it overslept", m.state())
	}
	a.planned = now.Add(overslept / 2)
	now = a.planned.Add(overslept / 2) // hardly late: no excuse
	a.forgive(now)
	m.tick(now, data)
	if m.state() != Direct {
		t.Fatalf("%v too early", m.state())
	}
	now = now.Add(minRTO / 2)
	m.tick(now, data)
	if m.state() != Suspect {
		t.Errorf("%v though nothing was answered", m.state())
	}
	doubted := m.doubted
	m.overslept(asleep)
	if m.doubted.Sub(doubted) != asleep {
		t.Errorf("doubt began at %v", m.doubted)
	}
}
