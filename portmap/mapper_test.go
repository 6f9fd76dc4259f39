package portmap

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
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
			g := newGateway(t)
			tc.set(g)
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
			if g.mappings() != 1 {
				t.Errorf("the gateway has %v", g.mapped)
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
			if g.mappings() != 0 {
				t.Errorf("left behind: %v", g.mapped)
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
			g := newGateway(t)
			set(g)
			g.taken[40000] = true
			r := run(t, g)
			if got := r.offered(t); len(got) != 1 || got[0].Port() == 40000 || g.mapped[int(got[0].Port())] != 40000 {
				t.Errorf("offered %v, the gateway has %v", got, g.mapped)
			}
			r.stop()
			if g.mappings() != 0 {
				t.Errorf("left behind: %v", g.mapped)
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
			g := newGateway(t)
			set(g)
			r := run(t, g)
			if s := r.failed(t); s.Useless != "the gateway itself is behind a NAT" || s.External.Addr().String() != g.outside || s.Err != "" {
				t.Errorf("%s: %+v", g.outside, s)
			}
			if g.mappings() != 0 {
				t.Errorf("%s: kept %v", g.outside, g.mapped)
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

// Whatever a gateway answers, nothing is offered that it did not properly give,
// and the reason is short.
func TestHostileAnswers(t *testing.T) {
	set := func(at int, value byte) func(*gateway) {
		return func(g *gateway) { g.spoil = func(a []byte) []byte { a[at] = value; return a } }
	}
	length := func(change func([]byte) []byte) func(*gateway) { return func(g *gateway) { g.spoil = change } }
	short := func(a []byte) []byte { return a[:len(a)-1] }
	empty := func([]byte) []byte { return []byte{} }
	for name, tc := range map[string]struct {
		set  func(*gateway)
		want string
	}{
		"nobody":                 {func(*gateway) {}, "does not answer PCP, NAT-PMP, UPnP"},
		"PCP refuses":            {func(g *gateway) { g.pcp, g.result = true, 2 }, "PCP: the gateway refuses: not authorized"},
		"PCP of an unknown kind": {func(g *gateway) { g.pcp, g.result = true, 99 }, "PCP: the gateway refuses: error 99"},
		"PCP for a second":       {func(g *gateway) { g.pcp, g.lifetime = true, 1 }, "it maps for 1s only"},
		"PCP nonce":              {func(g *gateway) { g.pcp = true; set(30, 99)(g) }, "does not answer PCP"},
		"PCP version":            {func(g *gateway) { g.pcp = true; set(0, 3)(g) }, "does not answer PCP"},
		"PCP request":            {func(g *gateway) { g.pcp = true; set(1, 1)(g) }, "does not answer PCP"},
		"PCP protocol":           {func(g *gateway) { g.pcp = true; set(36, 6)(g) }, "does not answer PCP"},
		"PCP port":               {func(g *gateway) { g.pcp = true; set(40, 1)(g) }, "does not answer PCP"},
		"PCP IPv6 address":       {func(g *gateway) { g.pcp = true; set(44, 0x20)(g) }, "does not answer PCP"},
		"PCP cut":                {func(g *gateway) { g.pcp = true; length(short)(g) }, "does not answer PCP"},
		"PCP empty":              {func(g *gateway) { g.pcp = true; length(empty)(g) }, "does not answer PCP"},
		"PCP endless": {func(g *gateway) {
			g.pcp = true
			length(func(a []byte) []byte { return append(a, make([]byte, 1400)...) })(g)
		}, "does not answer PCP"},
		"PMP refuses":      {func(g *gateway) { g.pmp, g.result = true, 2 }, "NAT-PMP: the gateway refuses: not authorized"},
		"PMP for a second": {func(g *gateway) { g.pmp, g.lifetime = true, 0 }, "NAT-PMP: the gateway refuses"},
		"PMP cut":          {func(g *gateway) { g.pmp = true; length(short)(g) }, "NAT-PMP"},
		"PMP port": {func(g *gateway) {
			g.pmp = true
			g.spoil = func(a []byte) []byte {
				if len(a) == pmpMapLen {
					a[8] ^= 1
				}
				return a
			}
		}, "does not answer PCP, NAT-PMP"},
		"no address":     {func(g *gateway) { g.pmp, g.outside = true, "0.0.0.0" }, "no address outside"},
		"loopback":       {func(g *gateway) { g.pcp, g.outside = true, "127.0.0.1" }, "says that its address is 127.0.0.1"},
		"multicast":      {func(g *gateway) { g.pmp, g.outside = true, "224.0.0.9" }, "says that its address is 224.0.0.9"},
		"UPnP refuses":   {func(g *gateway) { g.upnp, g.result = "IP:1", 106 }, "UPnP: the gateway refuses: UPnP error 106"},
		"UPnP address":   {func(g *gateway) { g.upnp, g.outside = "IP:1", strings.Repeat("x", 5000) }, `its address outside is "xxx`},
		"UPnP offline":   {func(g *gateway) { g.upnp, g.outside = "IP:1", "" }, "no connection to the internet"},
		"UPnP elsewhere": {func(g *gateway) { g.upnp, g.location = "IP:1", "http://192.0.2.1:80/root.xml" }, "does not answer PCP, NAT-PMP, UPnP"},
		"UPnP by name":   {func(g *gateway) { g.upnp, g.location = "IP:1", "http://localhost/root.xml" }, "does not answer PCP, NAT-PMP, UPnP"},
		"UPnP file":      {func(g *gateway) { g.upnp, g.location = "IP:1", "file:///etc/passwd" }, "does not answer PCP, NAT-PMP, UPnP"},
		"UPnP noise":     {func(g *gateway) { g.upnp = "IP:1"; length(func([]byte) []byte { return []byte("\x00\xff") })(g) }, "does not answer PCP, NAT-PMP, UPnP"},
		"UPnP other services": {func(g *gateway) {
			g.upnp, g.describe = "IP:1", func(w http.ResponseWriter) bool {
				fmt.Fprint(w, `<root xmlns="urn:schemas-upnp-org:device-1-0"/>`)
				return true
			}
		}, "no connection to the internet"},
		"UPnP no XML": {func(g *gateway) {
			g.upnp, g.describe = "IP:1", func(w http.ResponseWriter) bool { fmt.Fprint(w, "hello"); return true }
		}, "UPnP: read http"},
		"UPnP endless": {func(g *gateway) {
			g.upnp, g.describe = "IP:1", func(w http.ResponseWriter) bool {
				fmt.Fprint(w, `<root xmlns="urn:schemas-upnp-org:device-1-0">`)
				for range 1 << 12 {
					if _, err := fmt.Fprint(w, strings.Repeat("<a>b</a>", 64)); err != nil {
						return true
					}
				}
				return true
			}
		}, "UPnP: read http"},
		"UPnP entities": {func(g *gateway) {
			g.upnp, g.describe = "IP:1", func(w http.ResponseWriter) bool {
				fmt.Fprint(w, `<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><root xmlns="urn:schemas-upnp-org:device-1-0"><URLBase>&c;</URLBase></root>`)
				return true
			}
		}, "UPnP: read http"},
		"UPnP redirects": {func(g *gateway) {
			g.upnp, g.describe = "IP:1", func(w http.ResponseWriter) bool {
				w.Header().Set("Location", "/elsewhere")
				w.WriteHeader(http.StatusFound)
				return true
			}
		}, "HTTP status 302"},
		"UPnP control elsewhere": {func(g *gateway) {
			g.upnp, g.describe = "IP:1", func(w http.ResponseWriter) bool {
				fmt.Fprintf(w, strings.Replace(description, "/control<", "http://127.0.0.9:1/control<", 1), "IP", "1")
				return true
			}
		}, "127.0.0.9:1 is not the gateway"},
		"UPnP base elsewhere": {func(g *gateway) {
			g.upnp, g.describe = "IP:1", func(w http.ResponseWriter) bool {
				fmt.Fprintf(w, strings.Replace(description, "<device>", "<URLBase>http://192.0.2.1/</URLBase><device>", 1), "IP", "1")
				return true
			}
		}, "192.0.2.1:80 is not the gateway"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGateway(t)
			tc.set(g)
			r := run(t, g)
			s := r.failed(t)
			if !strings.Contains(s.Err+s.Useless, tc.want) || len(s.Err) > 400 {
				t.Errorf("%+v, want %q", s, tc.want)
			}
			if r.stop(); len(r.offers) > 0 {
				t.Errorf("offered %v", <-r.offers)
			}
			if g.count("GET /elsewhere") > 0 {
				t.Error("followed a redirection")
			}
		})
	}
}

// An answer from another address is not heard, even one that is right otherwise.
func TestStranger(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	g.pcp = true
	strangers := make(chan netip.AddrPort, 1)
	question := pcpRequest{client: loopback, nonce: nonce{1}, inside: 40000, lifetime: 7200}
	g.spoil = func(a []byte) []byte {
		select {
		case to := <-strangers:
			other := g.listen()
			other.WriteToUDPAddrPort(a, to)
			other.Close()
		default:
		}
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	err := ask(ctx, testLink, netip.AddrPortFrom(loopback, portOf(g.conn)), question.appendTo(nil), func([]byte) error { return nil })
	if !errors.Is(err, errSilent) {
		t.Errorf("heard a stranger: %v", err)
	}
}

// Nobody can keep a question busy for ever.
func TestStrays(t *testing.T) {
	t.Parallel()
	flood, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback, 0)))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 100)
		_, from, err := flood.ReadFromUDPAddrPort(b)
		for err == nil {
			_, err = flood.WriteToUDPAddrPort(b, from)
		}
	}()
	err = ask(context.Background(), testLink, netip.AddrPortFrom(loopback, portOf(flood)), []byte{0, 0}, func([]byte) error { return errNotAnswer })
	if !errors.Is(err, errNotAnswer) && !errors.Is(err, errSilent) {
		t.Errorf("got %v", err)
	}
	flood.Close()
	<-done
}

func TestAskEnds(t *testing.T) {
	t.Parallel()
	g := newGateway(t)
	ctx, cancel := context.WithCancel(context.Background())
	time.AfterFunc(20*time.Millisecond, cancel)
	started := time.Now()
	err := ask(ctx, testLink, netip.AddrPortFrom(loopback, portOf(g.conn)), []byte{9}, func([]byte) error { return nil })
	if !errors.Is(err, context.Canceled) || time.Since(started) > time.Second {
		t.Errorf("%v after %s", err, time.Since(started))
	}
	if _, err := search(ctx, testLink, netip.AddrPortFrom(loopback, portOf(g.ssdp))); !errors.Is(err, context.Canceled) {
		t.Errorf("search: %v", err)
	}
	if err := ask(context.Background(), link{}, netip.AddrPort{}, nil, nil); !errors.Is(err, errNoGateway) {
		t.Errorf("without a gateway: %v", err)
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
	g := newGateway(t)
	g.pcp, g.pmp = pcp, !pcp
	hearing := g.listen()
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
	other := g.listen()
	other.WriteToUDPAddrPort(said, netip.AddrPortFrom(loopback, portOf(hearing))) // not the gateway: not heard
	other.Close()
	g.conn.WriteToUDPAddrPort([]byte("noise"), netip.AddrPortFrom(loopback, portOf(hearing)))
	g.conn.WriteToUDPAddrPort(said, netip.AddrPortFrom(loopback, portOf(hearing)))
	if got := r.offered(t); len(got) != 1 || got[0].Addr().String() != "192.0.2.99" || g.mappings() != 1 {
		t.Errorf("PCP %t: offered %v", pcp, got)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
