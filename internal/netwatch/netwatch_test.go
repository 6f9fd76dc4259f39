package netwatch

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"
)

func TestBurst(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var b burst
	if _, ok := b.due(); ok {
		t.Error("due without a change")
	}
	b.add(reasonAddress, at(0))
	b.add(reasonLink, at(30))
	b.add(reasonRoute, at(40))
	if _, ok := b.take(at(89)); ok {
		t.Error("reported before it was quiet")
	}
	if r, ok := b.take(at(90)); !ok || r != reasonLink {
		t.Errorf("got %s %t, want the weightiest reason", r, ok)
	}
	if _, ok := b.take(at(1000)); ok {
		t.Error("reported twice")
	}
	for ms := 0; ms <= 480; ms += 20 { // never quiet
		b.add(reasonRoute, at(ms))
		if _, ok := b.take(at(ms)); ok {
			t.Errorf("reported after %d ms", ms)
		}
	}
	if r, ok := b.take(at(500)); !ok || r.String() != Route {
		t.Errorf("got %s %t after 500 ms", r, ok)
	}
}

func TestMissed(t *testing.T) {
	for _, tc := range []struct {
		wall, monotonic time.Duration
		want            bool
	}{
		{tick, tick, false},
		{tick + 4*time.Second, tick, false},                 // set by a clock server
		{time.Minute, tick, true},                           // the monotonic clock stood still
		{time.Minute, time.Minute, true},                    // it did not
		{tick + 8*time.Second, tick + 8*time.Second, false}, // a loaded machine
		{-time.Hour, tick, false},                           // set back
	} {
		if got := missed(tc.wall, tc.monotonic); got != tc.want {
			t.Errorf("wall %s, monotonic %s: %t", tc.wall, tc.monotonic, got)
		}
	}
	now := time.Now()
	c := newClocks(now)
	if c.slept(now.Add(tick)) {
		t.Error("slept in one tick")
	}
	if !c.slept(now.Add(tick + time.Hour)) {
		t.Error("did not notice an hour")
	}
	if c.slept(now.Add(tick + time.Hour + tick)) {
		t.Error("slept twice")
	}
}

func TestSnapshots(t *testing.T) {
	eth := func(prefixes ...string) interfaces {
		s := interfaces{up: map[int]bool{}, addrs: map[netip.Prefix]int{}}
		for _, p := range prefixes {
			s.addrs[netip.MustParsePrefix(p)] = 2
			s.up[2] = true
		}
		return s
	}
	one, two := eth("192.0.2.1/24"), eth("192.0.2.1/24", "2001:db8::1/64")
	for _, tc := range []struct {
		before, after interfaces
		want          reason
	}{
		{one, one, 0},
		{one, two, reasonAddress},
		{two, one, reasonAddress},
		{one, eth("192.0.2.2/24"), reasonAddress},
		{one, eth(), reasonLink},
		{eth(), one, reasonLink},
	} {
		if got := tc.before.changed(tc.after); got != tc.want {
			t.Errorf("%v to %v: %s", tc.before, tc.after, got)
		}
	}
	if s := snapshot(false); len(s.addrs) != 0 {
		t.Error("looked though nobody wanted it")
	}
	if r := snapshot(true).changed(snapshot(true)); r != 0 {
		t.Errorf("nothing happened, and it says %s", r)
	}
}

// fakeKernel tells what a test sends.
type fakeKernel struct {
	tell chan reason
	end  chan error
}

func (f fakeKernel) run(changed func(reason)) error {
	for {
		select {
		case r := <-f.tell:
			changed(r)
		case err := <-f.end:
			return err
		}
	}
}
func (f fakeKernel) close() { f.end <- net.ErrClosed }

// running runs a watcher until the test ends.
func running(t *testing.T, open func() (source, error)) <-chan string {
	t.Helper()
	reasons := make(chan string, 16)
	w := New(Config{OnChange: func(r string) { reasons <- r }})
	w.open = open
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return reasons
}

func next(t *testing.T, reasons <-chan string, want string) {
	t.Helper()
	select {
	case got := <-reasons:
		if got != want {
			t.Errorf("told %q, want %q", got, want)
		}
	case <-time.After(10 * time.Second):
		t.Errorf("nothing told, want %q", want)
	}
}

func TestRunGathers(t *testing.T) {
	f := fakeKernel{make(chan reason), make(chan error, 2)}
	reasons := running(t, func() (source, error) { return f, nil })
	for range 100 {
		f.tell <- reasonRoute
	}
	f.tell <- reasonLink
	next(t, reasons, Link)
	f.tell <- reasonAddress
	next(t, reasons, Address)
	select {
	case r := <-reasons:
		t.Errorf("told %s as well", r)
	default:
	}
}

// Without the kernel's word it goes on, and when that ends it says so once.
func TestRunWithoutKernel(t *testing.T) {
	none := running(t, func() (source, error) { return nil, errors.New("not permitted") })
	select {
	case r := <-none:
		t.Errorf("told %s", r)
	case <-time.After(2*tick + quietTime): // two comparisons find nothing: a time, as nothing else would end this
	}
	f := fakeKernel{make(chan reason), make(chan error, 2)}
	lost := running(t, func() (source, error) { return f, nil })
	f.end <- errors.New("broken")
	next(t, lost, Address)
}
