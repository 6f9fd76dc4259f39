package portmap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeWay is a gateway without a network, on the test's clock.
type fakeWay struct {
	mu       sync.Mutex // guards what follows
	port     uint16     // inside
	link     link
	noLink   error
	lifetime time.Duration
	outside  string
	err      error
	again    bool // what it says to announcements

	notes notes
}

// notes are what happened so far.
type notes struct {
	found, opened, closed []time.Time // when
	wanted                []uint16    // port outside, of opened
	offers                [][]netip.AddrPort
}

func (w *fakeWay) noted() notes {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.notes
}

// set changes it while it is asked.
func (w *fakeWay) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

func (w *fakeWay) protocol() string { return "fake" }

func (w *fakeWay) open(_ context.Context, port uint16, wanted netip.AddrPort) (mapping, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.notes.opened, w.notes.wanted = append(w.notes.opened, time.Now()), append(w.notes.wanted, wanted.Port())
	return mapping{external: netip.AddrPortFrom(netip.MustParseAddr(w.outside), port+1), lifetime: w.lifetime}, w.err
}

func (w *fakeWay) close(context.Context, uint16, netip.AddrPort) error {
	w.set(func() { w.notes.closed = append(w.notes.closed, time.Now()) })
	return nil
}

func (w *fakeWay) heard(news, time.Time) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.again
}

func (w *fakeWay) localPort() uint16 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.port
}

func (w *fakeWay) findLink() (link, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.link, w.noLink
}

// simulated runs a mapper with one lane over a fake way, on a simulated clock.
func simulated(t *testing.T, test func(t *testing.T, m *Mapper, w *fakeWay)) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWay{port: 40000, link: testLink, lifetime: 2 * time.Hour, outside: "192.0.2.77"}
		m := New(Config{Port: w.localPort, OnChange: func(a []netip.AddrPort) { w.set(func() { w.notes.offers = append(w.notes.offers, a) }) }})
		l := m.lanes[0]
		l.findLink = w.findLink
		l.listen = func(link) (*net.UDPConn, error) { return nil, errors.New("not in this test") }
		l.find = func(ctx context.Context, _ link, port uint16) (way, mapping, error) {
			w.set(func() { w.notes.found = append(w.notes.found, time.Now()) })
			got, err := w.open(ctx, port, netip.AddrPort{})
			return w, got, err
		}
		m.lanes[1].findLink = func() (link, error) { return link{}, errNoIPv6 }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		synctest.Wait()
		test(t, m, w)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// pass lets time go by, and everything that is due happen.
func pass(d time.Duration) {
	time.Sleep(d) // of the simulated clock
	synctest.Wait()
}

func since(start time.Time, times []time.Time) (out []time.Duration) {
	for _, t := range times {
		out = append(out, t.Sub(start))
	}
	return out
}

func TestRenewsAtHalf(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay) {
		start := time.Now()
		pass(5*time.Hour + time.Minute)
		want := []time.Duration{0, time.Hour, 2 * time.Hour, 3 * time.Hour, 4 * time.Hour, 5 * time.Hour}
		if got := since(start, w.noted().opened); !slices.Equal(got, want) {
			t.Errorf("asked after %v", got)
		}
		if !slices.Equal(w.noted().wanted, []uint16{0, 40001, 40001, 40001, 40001, 40001}) || len(w.noted().found) != 1 || len(w.noted().offers) != 1 {
			t.Errorf("wanted %v, searched %d times, offered %v", w.noted().wanted, len(w.noted().found), w.noted().offers)
		}
		if s := m.Status(); s.Expires.Sub(start) != 7*time.Hour || s.Err != "" {
			t.Errorf("%+v", s)
		}
	})
}

// A gateway that falls silent: the mapping is offered until it expires, and
// asked for at half of what is left; later more and more seldom.
func TestSilence(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay) {
		start := time.Now()
		w.set(func() { w.err = errSilent })
		pass(2*time.Hour - time.Second)
		if len(w.noted().offers) != 1 {
			t.Errorf("offered %v", w.noted().offers)
		}
		got := since(start, w.noted().found)
		if !slices.Equal(got[:4], []time.Duration{0, time.Hour, 90 * time.Minute, 105 * time.Minute}) {
			t.Errorf("searched after %v", got)
		}
		pass(2 * time.Second)
		if len(w.noted().offers) != 2 || w.noted().offers[1] != nil || m.Status().Err == "" {
			t.Errorf("offered %v, %+v", w.noted().offers, m.Status())
		}
		before := len(w.noted().found)
		pass(24 * time.Hour)
		if n := len(w.noted().found) - before; n < 40 || n > 56 {
			t.Errorf("searched %d times in a day", n)
		}
		w.set(func() { w.err = nil })
		m.Wake()
		pass(2 * time.Second)
		if len(w.noted().offers) != 3 || m.Status().Err != "" {
			t.Errorf("offered %v, %+v", w.noted().offers, m.Status())
		}
	})
}

func TestRefused(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay) {
		w.set(func() { w.err = refused("no more of them") })
		pass(time.Hour)
		if len(w.noted().offers) != 2 || w.noted().offers[1] != nil {
			t.Errorf("offered %v", w.noted().offers)
		}
		if s := m.Status(); s.Err != "the gateway refuses: no more of them" || s.External.IsValid() {
			t.Errorf("%+v", s)
		}
	})
}

func TestShortLifetime(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay) {
		w.set(func() { w.lifetime = time.Minute })
		m.Wake()
		pass(time.Second)
		before := len(w.noted().opened)
		pass(10 * time.Minute)
		if n := len(w.noted().opened) - before; n != 20 {
			t.Errorf("asked %d times in ten minutes", n)
		}
	})
}

// Neither changes of the network nor announcements can have it ask without pause.
func TestWakes(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay) {
		for range 1000 {
			m.Wake()
			pass(10 * time.Millisecond)
		}
		if n := len(w.noted().opened); n < 9 || n > 12 {
			t.Errorf("woken for 10 s, it asked %d times", n)
		}
		pass(time.Minute)
		w.set(func() { w.again = true })
		before := len(w.noted().opened)
		for range 1000 {
			m.lanes[0].news <- news{}
			pass(100 * time.Millisecond)
		}
		if n := len(w.noted().opened) - before; n < 9 || n > 12 {
			t.Errorf("announcements for 100 s, it asked %d times", n)
		}
		w.set(func() { w.again = false })
		before = len(w.noted().opened)
		m.lanes[0].news <- news{}
		pass(time.Minute)
		if len(w.noted().opened) != before {
			t.Error("asked after an announcement that says nothing new")
		}
	})
}

func TestPortComesAndGoes(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay) {
		w.set(func() { w.port = 0 })
		pass(portLook + time.Second)
		if len(w.noted().closed) != 1 || len(w.noted().offers) != 2 || w.noted().offers[1] != nil || m.Status().Err != errNoPort.Error() {
			t.Errorf("closed %v, offered %v, %+v", w.noted().closed, w.noted().offers, m.Status())
		}
		w.set(func() { w.port = 40007 })
		pass(2 * portWait)
		if len(w.noted().offers) != 3 || w.noted().offers[2][0].Port() != 40008 {
			t.Errorf("offered %v", w.noted().offers)
		}
	})
}

// In another network the old gateway is nobody.
func TestMoves(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay) {
		other := testLink
		other.local = netip.MustParseAddr("127.0.0.5")
		w.set(func() { w.link, w.noLink = link{}, errNoRoute })
		m.Wake()
		pass(2 * time.Second)
		if len(w.noted().offers) != 2 || m.Status().Err != errNoRoute.Error() {
			t.Errorf("without a network: offered %v, %+v", w.noted().offers, m.Status())
		}
		w.set(func() { w.link, w.noLink, w.outside = other, nil, "192.0.2.78" })
		m.Wake()
		pass(2 * time.Second)
		if len(w.noted().offers) != 3 || w.noted().offers[2][0].Addr().String() != "192.0.2.78" || len(w.noted().found) != 2 || len(w.noted().closed) != 0 {
			t.Errorf("offered %v, searched %d times, closed %d", w.noted().offers, len(w.noted().found), len(w.noted().closed))
		}
	})
}

// Of no use now: looked at again half an hour later.
func TestUselessAgain(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay) {
		w.set(func() { w.outside = "100.64.0.1" })
		m.Wake()
		pass(time.Second)
		if len(w.noted().offers) != 2 || len(w.noted().closed) != 1 {
			t.Errorf("offered %v, closed %d", w.noted().offers, len(w.noted().closed))
		}
		before := len(w.noted().opened)
		pass(lastRetry + time.Minute)
		if len(w.noted().opened) != before+1 {
			t.Errorf("asked %d times in half an hour", len(w.noted().opened)-before)
		}
	})
}

func TestEndTakesBack(t *testing.T) {
	var way *fakeWay
	simulated(t, func(_ *testing.T, _ *Mapper, w *fakeWay) { way = w })
	if len(way.noted().closed) != 1 {
		t.Errorf("taken back %d times", len(way.noted().closed))
	}
}
