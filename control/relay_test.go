package control

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/relay"
	"nexd/test/need"
)

func anyList([]string) bool { return true }

// told opens a stream and returns it with the list that comes first.
func (w *world) told(d device) (*watching, *controlapi.RelayList) {
	w.t.Helper()
	s := w.mustWatch(d, "")
	s.expect(controlapi.EventSnapshot)
	return s, s.list("at the beginning", anyList)
}

// What a device is told of relays comes right after the first event of each
// stream, and admits it, and nobody else, for three days.
func TestRelayList(t *testing.T) {
	w := start(t, t.TempDir())
	a := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "a"))
	s, list := w.told(a)
	own := list.Relays[0]
	if len(list.Relays) != 1 || own.Name != "service" || own.URL != "/v1/relay" || own.Pin != "" || own.PublicKey.IsZero() || !strings.HasPrefix(own.ID, "relay_") {
		t.Errorf("list %+v", list.Relays)
	}
	if want := []string{w.svc.STUNAddr().String()}; !slices.Equal(own.UDP, want) {
		t.Errorf("UDP at %v, want %v", own.UDP, want)
	}
	c, err := relay.ParseCredential(list.Credential)
	if err != nil || c.Device != a.private.Public() || c.Network != relay.NetworkOf(a.Network.ID) {
		t.Errorf("credential %+v, %v", c, err)
	}
	if left := time.Until(c.Expires); left < credentialLife-time.Minute || left > credentialLife {
		t.Errorf("it counts for %v", left)
	}
	// One that resumes is told again.
	s.stop()
	s = w.mustWatch(a, since(&controlapi.Map{Epoch: w.svc.hub.epoch}, w.revision()))
	if e, _ := s.any(); e.Type != controlapi.EventHeartbeat {
		t.Errorf("resumed with %+v", e)
	}
	s.list("after resuming", anyList)
	if got := s.order(); got[1] != controlapi.EventRelays {
		t.Errorf("the stream began with %v", got)
	}
}

func TestRelayCredentialIsRenewed(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.RelayRenew = 20 * time.Millisecond })
	s, _ := w.told(w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "a")))
	for range 3 {
		s.list("while the stream lasts", anyList)
	}
}

// A stream that has not sent a list yet sends the newest alone.
func TestRelayListsDoNotQueue(t *testing.T) {
	w := start(t, t.TempDir())
	a := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "a"))
	st := newStream(w.stored(a)) // a stream whose handler sleeps
	w.svc.hub.open(st, time.Now())
	defer func() { w.svc.hub.end(st, time.Now()) }()
	for _, name := range []string{"r1", "r2", "r3"} {
		w.beat(w.joinRelay(relayWish(w.relayRegKey(), name)))
	}
	if b := st.take(); !b.relays || b.behind {
		t.Errorf("waiting: %+v", b)
	}
	if b := st.take(); b.relays {
		t.Error("the list is sent twice")
	}
}

// Devices reach each other by what they are told alone, by UDP and by
// WebSocket; one that is deleted loses its session, here and there.
func TestEmbeddedRelay(t *testing.T) {
	w := start(t, t.TempDir())
	secret := w.regKey(controlapi.RegKeyRequest{})
	a, b := w.join(wish(secret, "a")), w.join(wish(secret, "b"))
	_, listA := w.told(a)
	_, listB := w.told(b)
	ra, rb := w.relay(a, listA, true), w.relay(b, listB, false)
	ra.connected(t, relay.UDP)
	rb.connected(t, relay.TLS)
	ra.reaches(t, rb, "from UDP to WebSocket")
	rb.reaches(t, ra, "from WebSocket to UDP")

	_, text := w.get("GET", "/metrics", "")
	for _, want := range []string{
		`nexd_relay_sessions{transport="udp"} 1`, `nexd_relay_sessions{transport="tls"} 1`, "nexd_relay_networks 1",
		`nexd_relay_packets_total{transport="udp"}`, `nexd_relay_bytes_total{transport="tls"}`, "nexd_relay_admitted_total 2",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}

	for _, one := range []*relayed{ra, rb} {
		w.admin("DELETE", "/v1/devices/"+one.device.Device.Name, nil, nil)
		eventually(t, "the session of a deleted device ends", func() bool {
			return one.Status().Transport == relay.NoTransport && one.Status().Err != nil
		})
		one.stop()
	}
	// The place another key takes: the old one's session ends likewise.
	c := w.join(wish(secret, "c"))
	s, listC := w.told(c)
	rc := w.relay(c, listC, true)
	rc.connected(t, relay.UDP)
	s.stop()
	eventually(t, "c is away", func() bool { return !w.svc.hub.connected(c.Device.ID) })
	w.join(wish(w.regKey(controlapi.RegKeyRequest{Reclaim: true}), "c"))
	eventually(t, "the session of the old key ends", func() bool { return rc.Status().Transport == relay.NoTransport })
	rc.stop()
}

// Nobody else is admitted: a credential of another service, and that of another device.
func TestEmbeddedRelayRefuses(t *testing.T) {
	w, other := start(t, t.TempDir()), start(t, t.TempDir())
	a := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "a"))
	stranger := other.join(wish(other.regKey(controlapi.RegKeyRequest{}), "a"))
	_, list := w.told(a)
	_, foreign := other.told(stranger)
	for what, c := range map[string]struct {
		d          device
		credential []byte
	}{"another service's": {stranger, foreign.Credential}, "another device's": {stranger, list.Credential}} {
		r := w.relay(c.d, &controlapi.RelayList{Relays: list.Relays, Credential: c.credential}, true)
		eventually(t, what+" credential is refused", func() bool {
			_, refused := r.Status().Err.(*relay.RefusedError)
			return refused && r.Status().Transport == relay.NoTransport
		})
		r.stop()
	}
}

// Restarted, the service is the same issuer and its relay the same relay:
// clients come back with what they were told before.
func TestRelayRestart(t *testing.T) {
	dir := t.TempDir()
	udp, https := fmt.Sprintf("127.0.0.1:%d", need.Port(t)), fmt.Sprintf("127.0.0.1:%d", need.Port(t)) // nobody is given them meanwhile
	same := func(c *Config) { c.STUNListen, c.Listen = udp, https }
	w := start(t, dir, same)
	secret := w.regKey(controlapi.RegKeyRequest{})
	a, b := w.join(wish(secret, "a")), w.join(wish(secret, "b"))
	_, listA := w.told(a)
	_, listB := w.told(b)
	ra, rb := w.relay(a, listA, true), w.relay(b, listB, false)
	ra.reaches(t, rb, "before")
	before := w.svc.relay.entry
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the clients hear of it", func() bool {
		return ra.Status().Transport == relay.NoTransport && rb.Status().Transport == relay.NoTransport
	})
	w = start(t, dir, same)
	if after := w.svc.relay.entry; after.ID != before.ID || after.PublicKey != before.PublicKey {
		t.Errorf("the relay is another: %+v, was %+v", after, before)
	}
	ra.reaches(t, rb, "after the restart")
	rb.reaches(t, ra, "after the restart, back")
}

// WebSocket alone, below a path, behind a reverse proxy that ends TLS.
func TestRelayBehindReverseProxy(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.STUNListen, c.PublicURL = stunOff, "https://mesh.example.org/mesh" })
	secret := w.regKey(controlapi.RegKeyRequest{})
	a, b := w.join(wish(secret, "a")), w.join(wish(secret, "b"))
	_, listA := w.told(a)
	_, listB := w.told(b)
	if len(listA.Relays[0].UDP) != 0 {
		t.Errorf("UDP at %v", listA.Relays[0].UDP)
	}
	target, err := url.Parse(w.base)
	if err != nil {
		t.Fatal(err)
	}
	for what, strip := range map[string]string{"the whole path": "", "the rest of the path": "/mesh"} {
		proxy := httputil.NewSingleHostReverseProxy(target)
		proxy.Transport = w.http.Transport.(*http.Transport).Clone()
		front := httptest.NewTLSServer(http.StripPrefix(strip, proxy))
		direct := *w
		direct.base = front.URL + "/mesh"
		direct.http = &http.Client{Transport: &http.Transport{TLSClientConfig: front.Client().Transport.(*http.Transport).TLSClientConfig}}
		ra, rb := direct.relay(a, listA, false), w.relay(b, listB, false)
		ra.reaches(t, rb, "through a proxy that passes on "+what)
		ra.stop()
		rb.stop()
		front.Close()
		proxy.Transport.(*http.Transport).CloseIdleConnections()
	}
}

// What is no WebSocket gets an answer of ours, by HTTP/1.1 and HTTP/2.
func TestRelayWantsUpgrade(t *testing.T) {
	w := start(t, t.TempDir())
	p, res := w.send("GET", "/v1/relay", "", nil, nil)
	w.refused(p, controlapi.CodeInvalid)
	if res.StatusCode != http.StatusUpgradeRequired || res.ProtoMajor != 2 || res.Header.Get("Upgrade") != "websocket" {
		t.Errorf("answer %s %s %v", res.Proto, res.Status, res.Header)
	}
}

func TestRelayAddress(t *testing.T) {
	cfg := Config{STUNListen: ":3478"}
	if got := advertisedRelay(&cfg, 3478); !slices.Equal(got, []string{":3478"}) {
		t.Errorf("by default %v", got)
	}
	for ip, want := range map[string]string{"192.0.2.1": "192.0.2.1:3478", "2001:db8::1": "[2001:db8::1]:3478"} {
		cfg.RelayAddress = netip.MustParseAddr(ip)
		if got := advertisedRelay(&cfg, 3478); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %v", ip, got)
		}
	}
	for _, ip := range []string{"0.0.0.0", "::", "224.0.0.1", "fe80::1%eth0"} {
		bad := testConfig(t.TempDir())
		bad.RelayAddress = netip.MustParseAddr(ip)
		if err := bad.Validate(); err == nil || !strings.Contains(err.Error(), "--relay-address") {
			t.Errorf("%s: %v", ip, err)
		}
	}
}

// The sockets of one relay share their port; those of two services do not.
func TestRelayPortIsNotShared(t *testing.T) {
	w := start(t, t.TempDir())
	cfg := testConfig(t.TempDir())
	cfg.STUNListen = w.svc.STUNAddr().String()
	svc, err := New(cfg)
	if err == nil {
		svc.Close()
		t.Fatal("a second service took the port")
	}
	if !strings.Contains(err.Error(), "--stun-listen") {
		t.Error(err)
	}
}

// A relay of its own, given what the service gives it, admits the service's devices.
func TestIssuersAdmit(t *testing.T) {
	w := start(t, t.TempDir())
	one := w.joinRelay(relayWish(w.relayRegKey(), "r"))
	server, err := relay.NewServer(relay.ServerConfig{Private: one.private, Issuers: []ed25519.PublicKey{one.Issuers[0]}})
	if err != nil {
		t.Fatal(err)
	}
	sockets, err := relay.Listen(t.Context(), "127.0.0.1:0", 1, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ran := make(chan error, 1)
	go func() { ran <- server.Run(ctx, sockets...) }()
	defer func() {
		cancel()
		if err := <-ran; err != nil {
			t.Error(err)
		}
	}()
	secret := w.regKey(controlapi.RegKeyRequest{})
	var clients []*relayed
	w.beat(one, func(b *controlapi.RelayHeartbeat) { b.UDP, b.URL = []string{sockets[0].LocalAddr().String()}, "" })
	for _, name := range []string{"a", "b"} {
		d := w.join(wish(secret, name))
		_, list := w.told(d)
		clients = append(clients, w.relay(d, &controlapi.RelayList{Relays: list.Relays[1:], Credential: list.Credential}, true))
	}
	clients[0].reaches(t, clients[1], "over a relay that knows the issuer alone")
	for _, c := range clients {
		c.stop()
	}
}

// Where a device is, everybody is told; it can only name relays there are.
func TestHomes(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.UpdateRate = Rate{PerSecond: 0.01, Burst: 8} })
	secret := w.regKey(controlapi.RegKeyRequest{})
	a, b := w.join(wish(secret, "a")), w.join(wish(secret, "b"))
	own := w.svc.relay.entry.ID
	other := w.joinRelay(relayWish(w.relayRegKey(), "r")).ID
	s := w.mustWatch(b, "")
	s.expect(controlapi.EventSnapshot)
	put := func(ids ...string) *controlapi.Problem {
		t.Helper()
		p, _ := w.send("PUT", "/v1/self/relays", a.Credential, controlapi.Homes{Relays: ids}, nil)
		return p
	}
	for _, ids := range [][]string{{own, other}, {other}} {
		if p := put(ids...); p != nil {
			t.Fatal(p)
		}
		d := s.expect(controlapi.EventDelta).Delta
		if len(d.Upsert) != 1 || !slices.Equal(d.Upsert[0].Relays, ids) {
			t.Errorf("b is told %+v", d)
		}
	}
	before := w.revision()
	if p := put(other); p != nil || w.revision() != before {
		t.Errorf("the same again: %v, revision %d after %d", p, w.revision(), before)
	}
	for what, ids := range map[string][]string{
		"unknown": {"relay_none"}, "twice": {own, own}, "too many": {own, other, "x", "y", "z"},
	} {
		if p := put(ids...); p == nil || p.Code != controlapi.CodeInvalid {
			t.Errorf("%s: %v", what, p)
		}
	}
	var infos controlapi.RelayInfoList
	w.admin("GET", "/v1/relays", nil, &infos)
	if r := infos.Relays; len(r) != 2 || !r[0].Embedded || r[0].Devices != 0 || r[1].Devices != 1 || r[1].Listed {
		t.Errorf("relays %+v", r)
	}
	for range 8 {
		put(other)
	}
	w.refused(put(other), controlapi.CodeRateLimited)
	m := w.mustWatch(b, "").expect(controlapi.EventSnapshot).Map
	if len(m.Peers) != 1 || !slices.Equal(m.Peers[0].Relays, []string{other}) {
		t.Errorf("b's map: %+v", m.Peers)
	}
}

// At its end the service asks the clients of its relay to use another, where
// there is one, and waits until they went.
func TestRelayDrains(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.RelayGrace = patience })
	a := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "a"))
	w.beat(w.joinRelay(relayWish(w.relayRegKey(), "r")))
	_, list := w.told(a)
	r := w.relay(a, list, true)
	r.connected(t, relay.UDP)
	ended := make(chan error, 1)
	go func() { ended <- w.end() }()
	eventually(t, "the relay asks to use another", func() bool { return r.Status().Draining && r.Status().Transport == relay.UDP })
	select {
	case err := <-ended:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	r.stop()
	begin := time.Now()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > patience/2 {
		t.Errorf("it ended %v after the last client", took)
	}
}
