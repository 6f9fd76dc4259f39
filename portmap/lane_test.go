package portmap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// fakeWay is a gateway without a network, on the test's clock.
type fakeWay struct {
	lifetime time.Duration
	outside  string
	err      error
	again    bool // what it says to announcements

	found, opened, closed []time.Time // when
	wanted                []uint16    // port outside, of opened
}

func (w *fakeWay) protocol() string { return "fake" }

func (w *fakeWay) open(_ context.Context, port uint16, wanted netip.AddrPort) (mapping, error) {
	w.opened, w.wanted = append(w.opened, time.Now()), append(w.wanted, wanted.Port())
	return mapping{external: netip.AddrPortFrom(netip.MustParseAddr(w.outside), port+1), lifetime: w.lifetime}, w.err
}

func (w *fakeWay) close(context.Context, uint16, netip.AddrPort) error {
	w.closed = append(w.closed, time.Now())
	return nil
}

func (w *fakeWay) heard(news, time.Time) bool { return w.again }

// simulated runs a mapper with one lane over a fake way, on a simulated clock.
func simulated(t *testing.T, test func(t *testing.T, m *Mapper, w *fakeWay, port *uint16, offers *[][]netip.AddrPort)) {
	synctest.Test(t, func(t *testing.T) {
		w := &fakeWay{lifetime: 2 * time.Hour, outside: "192.0.2.77"}
		port := uint16(40000)
		var offers [][]netip.AddrPort
		m := New(Config{Port: func() uint16 { return port }, OnChange: func(a []netip.AddrPort) { offers = append(offers, a) }})
		l := m.lanes[0]
		l.findLink = func() (link, error) { return testLink, nil }
		l.listen = func(link) (*net.UDPConn, error) { return nil, errors.New("not in this test") }
		l.find = func(ctx context.Context, _ link, port uint16) (way, mapping, error) {
			w.found = append(w.found, time.Now())
			got, err := w.open(ctx, port, netip.AddrPort{})
			return w, got, err
		}
		m.lanes[1].findLink = func() (link, error) { return link{}, errNoIPv6 }
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- m.Run(ctx) }()
		synctest.Wait()
		test(t, m, w, &port, &offers)
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
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay, _ *uint16, offers *[][]netip.AddrPort) {
		start := time.Now()
		pass(5*time.Hour + time.Minute)
		want := []time.Duration{0, time.Hour, 2 * time.Hour, 3 * time.Hour, 4 * time.Hour, 5 * time.Hour}
		if got := since(start, w.opened); !slices.Equal(got, want) {
			t.Errorf("asked after %v", got)
		}
		if !slices.Equal(w.wanted, []uint16{0, 40001, 40001, 40001, 40001, 40001}) || len(w.found) != 1 || len(*offers) != 1 {
			t.Errorf("wanted %v, searched %d times, offered %v", w.wanted, len(w.found), *offers)
		}
		if s := m.Status(); s.Expires.Sub(start) != 7*time.Hour || s.Err != "" {
			t.Errorf("%+v", s)
		}
	})
}

// A gateway that falls silent: the mapping is offered until it expires, and
// asked for more and more seldom.
func TestSilence(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay, _ *uint16, offers *[][]netip.AddrPort) {
		start := time.Now()
		w.err = errSilent
		pass(2*time.Hour - time.Second)
		if len(*offers) != 1 {
			t.Errorf("offered %v", *offers)
		}
		got := since(start, w.found)
		if !slices.Equal(got[:4], []time.Duration{0, time.Hour, 90 * time.Minute, 105 * time.Minute}) {
			t.Errorf("searched after %v", got)
		}
		pass(2 * time.Second)
		if len(*offers) != 2 || (*offers)[1] != nil || m.Status().Err == "" {
			t.Errorf("offered %v, %+v", *offers, m.Status())
		}
		before := len(w.found)
		pass(24 * time.Hour)
		if n := len(w.found) - before; n < 40 || n > 56 {
			t.Errorf("searched %d times in a day", n)
		}
		w.err = nil
		m.Wake()
		pass(2 * time.Second)
		if len(*offers) != 3 || m.Status().Err != "" {
			t.Errorf("offered %v, %+v", *offers, m.Status())
		}
	})
}

func TestRefused(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay, _ *uint16, offers *[][]netip.AddrPort) {
		w.err = refused("no more of them")
		pass(time.Hour)
		if len(*offers) != 2 || (*offers)[1] != nil {
			t.Errorf("offered %v", *offers)
		}
		if s := m.Status(); s.Err != "the gateway refuses: no more of them" || s.External.IsValid() {
			t.Errorf("%+v", s)
		}
	})
}

func TestShortLifetime(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay, _ *uint16, _ *[][]netip.AddrPort) {
		w.lifetime = time.Minute
		m.Wake()
		pass(time.Second)
		before := len(w.opened)
		pass(10 * time.Minute)
		if n := len(w.opened) - before; n != 20 {
			t.Errorf("asked %d times in ten minutes", n)
		}
	})
}

// Neither changes of the network nor announcements can have it ask without pause.
func TestWakes(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay, _ *uint16, _ *[][]netip.AddrPort) {
		for range 1000 {
			m.Wake()
			pass(10 * time.Millisecond)
		}
		if n := len(w.opened); n < 9 || n > 12 {
			t.Errorf("woken for 10 s, it asked %d times", n)
		}
		pass(time.Minute)
		w.again = true
		before := len(w.opened)
		for range 1000 {
			m.lanes[0].news <- news{}
			pass(100 * time.Millisecond)
		}
		if n := len(w.opened) - before; n < 9 || n > 12 {
			t.Errorf("announcements for 100 s, it asked %d times", n)
		}
		w.again = false
		before = len(w.opened)
		m.lanes[0].news <- news{}
		pass(time.Minute)
		if len(w.opened) != before {
			t.Error("asked after an announcement that says nothing new")
		}
	})
}

func TestPortComesAndGoes(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay, port *uint16, offers *[][]netip.AddrPort) {
		*port = 0
		pass(portLook + time.Second)
		if len(w.closed) != 1 || len(*offers) != 2 || (*offers)[1] != nil || m.Status().Err != errNoPort.Error() {
			t.Errorf("closed %v, offered %v, %+v", w.closed, *offers, m.Status())
		}
		*port = 40007
		pass(2 * portWait)
		if len(*offers) != 3 || (*offers)[2][0].Port() != 40008 {
			t.Errorf("offered %v", *offers)
		}
	})
}

// In another network the old gateway is nobody.
func TestMoves(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay, _ *uint16, offers *[][]netip.AddrPort) {
		other := testLink
		other.local = netip.MustParseAddr("127.0.0.5")
		m.lanes[0].findLink = func() (link, error) { return link{}, errNoRoute }
		m.Wake()
		pass(2 * time.Second)
		if len(*offers) != 2 || m.Status().Err != errNoRoute.Error() {
			t.Errorf("without a network: offered %v, %+v", *offers, m.Status())
		}
		m.lanes[0].findLink = func() (link, error) { return other, nil }
		w.outside = "192.0.2.78"
		m.Wake()
		pass(2 * time.Second)
		if len(*offers) != 3 || (*offers)[2][0].Addr().String() != "192.0.2.78" || len(w.found) != 2 || len(w.closed) != 0 {
			t.Errorf("offered %v, searched %d times, closed %d", *offers, len(w.found), len(w.closed))
		}
	})
}

// Of no use now: looked at again half an hour later.
func TestUselessAgain(t *testing.T) {
	simulated(t, func(t *testing.T, m *Mapper, w *fakeWay, _ *uint16, offers *[][]netip.AddrPort) {
		w.outside = "100.64.0.1"
		m.Wake()
		pass(time.Second)
		if len(*offers) != 2 || len(w.closed) != 1 {
			t.Errorf("offered %v, closed %d", *offers, len(w.closed))
		}
		before := len(w.opened)
		pass(lastRetry + time.Minute)
		if len(w.opened) != before+1 {
			t.Errorf("asked %d times in half an hour", len(w.opened)-before)
		}
	})
}

func TestEndTakesBack(t *testing.T) {
	var way *fakeWay
	simulated(t, func(_ *testing.T, _ *Mapper, w *fakeWay, _ *uint16, _ *[][]netip.AddrPort) { way = w })
	if len(way.closed) != 1 {
		t.Errorf("taken back %d times", len(way.closed))
	}
}
