package portmap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// running is a mapper that asks a gateway of the test.
type running struct {
	*Mapper
	port    atomic.Uint32
	offers  chan []netip.AddrPort
	stop    func()
	stopped chan struct{}
}

var errNoIPv6 = errors.New("no IPv6 in this test")

func run(t *testing.T, g *gateway) *running {
	t.Helper()
	r := &running{offers: make(chan []netip.AddrPort, 16), stopped: make(chan struct{})}
	r.port.Store(40000)
	r.Mapper = New(Config{
		Port:     func() uint16 { return uint16(r.port.Load()) },
		OnChange: func(a []netip.AddrPort) { r.offers <- a },
	})
	r.finder = *g.finder()
	r.lanes[0].findLink = func() (link, error) { return testLink, nil }
	r.lanes[0].listen = func(link) (*net.UDPConn, error) { return nil, errors.New("not in this test") }
	r.lanes[1].findLink = func() (link, error) { return link{}, errNoIPv6 }
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(r.stopped)
		if err := r.Run(ctx); err != nil {
			t.Error(err)
		}
	}()
	r.stop = func() { cancel(); <-r.stopped }
	t.Cleanup(r.stop)
	return r
}

// offered waits for an offer.
func (r *running) offered(t *testing.T) []netip.AddrPort {
	t.Helper()
	select {
	case a := <-r.offers:
		return a
	case <-time.After(20 * time.Second):
		t.Fatalf("nothing offered: %+v", r.Status())
		return nil
	}
}

// failed waits until the mapper says why there is no mapping.
func (r *running) failed(t *testing.T) Status {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for time.Now().Before(end) {
		if s := r.Status(); s.Err != "" || s.Useless != "" {
			return s
		}
		time.Sleep(10 * time.Millisecond) // the step of the poll
	}
	t.Fatalf("it does not say why: %+v", r.Status())
	return Status{}
}

func TestProtocols(t *testing.T) {
	for name, tc := range map[string]struct {
		set      func(*gateway)
		protocol string
	}{
		"PCP":          {func(g *gateway) { g.pcp = true }, PCP},
		"NAT-PMP":      {func(g *gateway) { g.pmp = true }, PMP},
		"all":          {func(g *gateway) { g.pcp, g.pmp, g.upnp = true, true, "IP:1" }, PCP},
		"PMP and UPnP": {func(g *gateway) { g.pmp, g.upnp = true, "IP:1" }, PMP},
		"IGD 1":        {func(g *gateway) { g.upnp = "IP:1" }, UPnP},
		"IGD 2":        {func(g *gateway) { g.upnp = "IP:2" }, UPnP},
		"PPP":          {func(g *gateway) { g.upnp = "PPP:1" }, UPnP},
		"permanent":    {func(g *gateway) { g.upnp, g.forever = "IP:1", true }, UPnP},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, tc.set)
			r := run(t, g)
			want := netip.MustParseAddrPort("192.0.2.77:40000")
			if got := r.offered(t); len(got) != 1 || got[0] != want {
				t.Errorf("offered %v, want %s", got, want)
			}
			s := r.Status()
			if s.Protocol != tc.protocol || s.External != want || s.Err != "" || s.Useless != "" {
				t.Errorf("%+v", s)
			}
			if left := time.Until(s.Expires); left < wantedLifetime-time.Minute || left > wantedLifetime {
				t.Errorf("expires in %s", left)
			}
			if has := g.mappings(); len(has) != 1 || has[40000] != 40000 {
				t.Errorf("the gateway has %v", has)
			}

			r.Wake() // renewed, as the same one
			before := g.count("pcp") + g.count("pmp map") + g.count("GetExternalIPAddress")
			until(t, func() bool { return g.count("pcp")+g.count("pmp map")+g.count("GetExternalIPAddress") > before })
			r.port.Store(40001) // moved with the port, at the latest when that is looked at
			r.Wake()
			if got := r.offered(t); len(got) != 1 || got[0].Port() != 40001 {
				t.Errorf("offered %v after the port changed", got)
			}
			r.stop()
			if left := g.mappings(); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	end := time.Now().Add(20 * time.Second)
	for !ok() {
		if time.Now().After(end) {
			t.Fatal("did not happen")
		}
		time.Sleep(10 * time.Millisecond) // the step of the poll
	}
}

func TestPortTaken(t *testing.T) {
	for name, set := range map[string]func(*gateway){
		"PCP":     func(g *gateway) { g.pcp = true },
		"NAT-PMP": func(g *gateway) { g.pmp = true },
		"IGD 1":   func(g *gateway) { g.upnp = "IP:1" },
		"IGD 2":   func(g *gateway) { g.upnp = "IP:2" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, func(g *gateway) { set(g); g.taken[40000] = true })
			r := run(t, g)
			if got := r.offered(t); len(got) != 1 || got[0].Port() == 40000 || g.mappings()[int(got[0].Port())] != 40000 {
				t.Errorf("offered %v, the gateway has %v", got, g.mappings())
			}
			r.stop()
			if left := g.mappings(); len(left) != 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

// Addresses that nobody outside reaches are told, not offered, and not kept.
func TestUseless(t *testing.T) {
	for name, set := range map[string]func(*gateway){
		"PCP":     func(g *gateway) { g.pcp, g.outside = true, "100.64.3.4" },
		"NAT-PMP": func(g *gateway) { g.pmp, g.outside = true, "192.168.7.8" },
		"UPnP":    func(g *gateway) { g.upnp, g.outside = "IP:1", "10.0.0.1" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t, set)
			g.mu.Lock()
			outside := g.outside
			g.mu.Unlock()
			r := run(t, g)
			if s := r.failed(t); s.Useless != "the gateway itself is behind a NAT" || s.External.Addr().String() != outside || s.Err != "" {
				t.Errorf("%s: %+v", outside, s)
			}
			if kept := g.mappings(); len(kept) != 0 {
				t.Errorf("%s: kept %v", outside, kept)
			}
			g.mu.Lock()
			g.outside = "192.0.2.78"
			g.mu.Unlock()
			r.Wake()
			if got := r.offered(t); len(got) != 1 || got[0].Addr().String() != "192.0.2.78" || r.Status().Useless != "" {
				t.Errorf("offered %v, %+v", got, r.Status())
			}
		})
	}
}

// A gateway that restarts says so to all hosts.
func TestAnnouncement(t *testing.T) {
	t.Parallel()
	for _, pcp := range []bool{true, false} {
		t.Run(map[bool]string{true: "PCP", false: "NAT-PMP"}[pcp], func(t *testing.T) { t.Parallel(); announcement(t, pcp) })
	}
}

func announcement(t *testing.T, pcp bool) {
	g := newGateway(t, func(g *gateway) { g.pcp, g.pmp = pcp, !pcp })
	hearing := listenUDP(t)
	r := &running{offers: make(chan []netip.AddrPort, 16)}
	r.Mapper = New(Config{Port: func() uint16 { return 40000 }, OnChange: func(a []netip.AddrPort) { r.offers <- a }})
	r.finder = *g.finder()
	r.lanes[0].findLink = func() (link, error) { return testLink, nil }
	r.lanes[0].listen = func(link) (*net.UDPConn, error) { return hearing, nil }
	r.lanes[1].findLink = func() (link, error) { return link{}, errNoIPv6 }
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	r.offered(t)

	g.mu.Lock() // forgets everything, has another address, and says so
	clear(g.mapped)
	g.began, g.outside = time.Now(), "192.0.2.99"
	said := append([]byte{0, answerBit, 0, 0, 0, 0, 0, 0}, 192, 0, 2, 99)
	if pcp {
		said = make([]byte, pcpHeaderLen)
		said[0], said[1] = pcpVersion, answerBit
	}
	g.mu.Unlock()
	other := listenUDP(t)
	other.WriteToUDPAddrPort(said, netip.AddrPortFrom(loopback, portOf(hearing))) // not the gateway: not heard
	other.Close()
	g.conn.WriteToUDPAddrPort([]byte("noise"), netip.AddrPortFrom(loopback, portOf(hearing)))
	g.conn.WriteToUDPAddrPort(said, netip.AddrPortFrom(loopback, portOf(hearing)))
	if got := r.offered(t); len(got) != 1 || got[0].Addr().String() != "192.0.2.99" || len(g.mappings()) != 1 {
		t.Errorf("PCP %t: offered %v", pcp, got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A gateway that refuses to renew has ended the mapping: it is offered no more.
func TestRenewalRefused(t *testing.T) {
	t.Parallel()
	g := newGateway(t, func(g *gateway) { g.pcp = true })
	r := run(t, g)
	r.offered(t)
	g.mu.Lock()
	g.result = 2
	g.mu.Unlock()
	r.Wake()
	if got := r.offered(t); got != nil {
		t.Errorf("offered %v", got)
	}
	if s := r.Status(); !strings.Contains(s.Err, "not authorized") || s.External.IsValid() {
		t.Errorf("%+v", s)
	}
}
