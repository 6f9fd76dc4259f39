package portmap

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

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
			g := newGateway(t, tc.set)
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
	asked, other := listenUDP(t), listenUDP(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 100)
		for {
			n, from, err := asked.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			other.WriteToUDPAddrPort(b[:n], from)
		}
	}()
	err := ask(context.Background(), testLink, netip.AddrPortFrom(loopback, portOf(asked)), []byte{1}, func([]byte) error { return nil })
	if !errors.Is(err, errSilent) {
		t.Errorf("heard a stranger: %v", err)
	}
	asked.Close()
	<-done
}

// Nobody can keep a question busy for ever.
func TestStrays(t *testing.T) {
	t.Parallel()
	flood := listenUDP(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 100)
		_, from, err := flood.ReadFromUDPAddrPort(b)
		for err == nil {
			_, err = flood.WriteToUDPAddrPort(b, from)
		}
	}()
	err := ask(context.Background(), testLink, netip.AddrPortFrom(loopback, portOf(flood)), []byte{0, 0}, func([]byte) error { return errNotAnswer })
	if !errors.Is(err, errNotAnswer) && !errors.Is(err, errSilent) {
		t.Errorf("got %v", err)
	}
	flood.Close()
	<-done
}

func TestAskEnds(t *testing.T) {
	t.Parallel()
	g := newGateway(t, func(*gateway) {})
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
