package control

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/key"
	"nexd/relay"
)

func is(want ...string) func([]string) bool {
	return func(names []string) bool { return slices.Equal(names, want) }
}

// reported has r report until s is told a list with names, and r at the address
// it reports: a list of before may be on its way.
func (w *world) reported(r station, s *watching, names []string, change ...func(*controlapi.RelayHeartbeat)) *controlapi.RelayList {
	w.t.Helper()
	said := controlapi.RelayHeartbeat{RelayAddress: relayAddress(r.Name)}
	for _, f := range change {
		f(&said)
	}
	elsewhere := func(one controlapi.Relay) bool { return one.ID == r.ID && !slices.Equal(one.UDP, said.UDP) }
	deadline := time.Now().Add(patience)
	for time.Now().Before(deadline) {
		w.beat(r, change...)
		pause := time.After(50 * time.Millisecond)
		for waiting := true; waiting; {
			select {
			case l := <-s.relays:
				if slices.Equal(relayNames(l), names) && !slices.ContainsFunc(l.Relays, elsewhere) {
					return l
				}
			case <-pause:
				waiting = false
			}
		}
	}
	w.t.Fatalf("no list of relays with %v", names)
	return nil
}

// slowStore does something while the state of a relay is written.
type slowStore struct {
	store.Store
	meanwhile func()
}

func (s slowStore) UpdateRelay(ctx context.Context, id string, state store.RelayState) error {
	s.meanwhile()
	return s.Store.UpdateRelay(ctx, id, state)
}

// A heartbeat that was under way while the relay joined again under another
// name does not bring the old one back.
func TestHeartbeatDuringJoin(t *testing.T) {
	w := start(t, t.TempDir())
	joined := w.joinRelay(relayWish(w.relayRegKey(), "old"))
	all, err := w.svc.store.Relays(t.Context())
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	one := all[0]
	one.Name = "new"
	now := time.Now()
	r := newRelays(&w.svc.cfg, nil, w.svc.relays.issuer, w.svc.relay)
	r.store = slowStore{w.svc.store, func() { r.joined(one, now) }}
	r.joined(all[0], now)
	there, err := r.heartbeat(t.Context(), joined.ID, controlapi.RelayHeartbeat{RelayAddress: relayAddress("r")}, now)
	if err != nil || !there {
		t.Fatal(there, err)
	}
	if got := relayNames(&controlapi.RelayList{Relays: r.list}); !slices.Equal(got, []string{"service", "new"}) {
		t.Errorf("devices are told of %q", got)
	}
}

// A relay joins, reports, falls silent, comes back, drains and is deleted:
// devices are told of it exactly while it can be used.
func TestStationLife(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.RelayTimeout, c.RelayLeaving = 300*time.Millisecond, 100*time.Millisecond })
	s, _ := w.told(w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "a")))
	r := w.joinRelay(relayWish(w.relayRegKey(), "r"))
	if len(r.Issuers) != 1 || len(r.Issuers[0]) != 32 || !strings.HasPrefix(r.ID, "relay_") || r.Name != "r" {
		t.Errorf("answer %+v", r.RelayJoinResponse)
	}
	first := w.beat(r)
	if len(first.Issuers) != 1 || len(first.Denied) != 0 {
		t.Errorf("answer %+v", first)
	}
	list := w.reported(r, s, []string{"service", "r"})
	if got := list.Relays[1]; got.ID != r.ID || got.PublicKey != r.private.Public() || !slices.Equal(got.UDP, relayAddress("r").UDP) || got.URL != relayAddress("r").URL {
		t.Errorf("told of %+v", got)
	}
	s.list("without the silent relay", is("service"))
	moved := []string{"192.0.2.9:3478"}
	list = w.reported(r, s, []string{"service", "r"}, func(b *controlapi.RelayHeartbeat) { b.UDP = moved })
	if !slices.Equal(list.Relays[1].UDP, moved) {
		t.Errorf("told of %v", list.Relays[1].UDP)
	}
	s.list("without it again", is("service"))
	w.reported(r, s, []string{"service", "r"})
	w.reported(r, s, []string{"service"}, func(b *controlapi.RelayHeartbeat) { b.Draining = true })
	var infos controlapi.RelayInfoList
	w.beat(r, func(b *controlapi.RelayHeartbeat) { b.Draining, b.Version = true, "2" })
	w.admin("GET", "/v1/relays", nil, &infos)
	if got := infos.Relays[1]; got.Listed || !got.Draining || got.Version != "2" || got.LastSeen.IsZero() || got.RegKeyID == "" || got.Created.IsZero() {
		t.Errorf("described as %+v", got)
	}
	w.reported(r, s, []string{"service", "r"}) // it stays after all
	w.admin("DELETE", "/v1/relays/r", nil, nil)
	s.list("without the deleted relay", is("service"))
	p, _ := w.send("PUT", "/v1/relays/self", r.Credential, controlapi.RelayHeartbeat{RelayAddress: relayAddress("r")}, nil)
	w.refused(p, controlapi.CodeUnauthorized)
	for what, code := range map[string]controlapi.Code{"r": controlapi.CodeNotFound, "service": controlapi.CodeInvalid} {
		p, _ = w.send("DELETE", "/v1/relays/"+what, w.token, nil, nil)
		w.refused(p, code)
	}
}

// A relay that was there when the service ended is there when it comes back;
// one that was not, is not.
func TestStationsOverRestart(t *testing.T) {
	dir := t.TempDir()
	w := start(t, dir, func(c *Config) { c.RelayTimeout = 200 * time.Millisecond })
	a := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "a"))
	s, _ := w.told(a)
	gone, stays := w.joinRelay(relayWish(w.relayRegKey(), "gone")), w.joinRelay(relayWish(w.relayRegKey(), "stays"))
	w.reported(gone, s, []string{"service", "gone"})
	s.list("without", is("service"))
	for range 2 {
		if err := w.end(); err != nil {
			t.Fatal(err)
		}
		w = start(t, dir)
		w.beat(stays)
	}
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	w = start(t, dir)
	_, list := w.told(a)
	if len(list.Relays) != 2 || list.Relays[1].ID != stays.ID {
		t.Errorf("after the restart: %+v", list.Relays)
	}
	w.beat(stays) // its credential holds
}

// The same key is the same relay, and its old credential is void.
func TestStationJoinsAgain(t *testing.T) {
	w := start(t, t.TempDir())
	secret := w.relayRegKey()
	first := w.joinRelay(relayWish(secret, "r"))
	w.beat(first)
	again, p := w.tryJoinRelay(first.private, relayWish(secret, "other"))
	if p != nil || again.ID != first.ID || again.Name != "r" || again.Credential == first.Credential {
		t.Errorf("again %+v, %v", again.RelayJoinResponse, p)
	}
	p, _ = w.send("PUT", "/v1/relays/self", first.Credential, controlapi.RelayHeartbeat{RelayAddress: relayAddress("r")}, nil)
	w.refused(p, controlapi.CodeUnauthorized)
	w.beat(again)
}

func TestStationRefusals(t *testing.T) {
	w := start(t, t.TempDir())
	relays, devices := w.relayRegKey(), w.regKey(controlapi.RegKeyRequest{})
	w.joinRelay(relayWish(relays, "taken"))
	address := func(a controlapi.RelayAddress) func(*controlapi.RelayJoinRequest) {
		return func(r *controlapi.RelayJoinRequest) { r.RelayAddress = a }
	}
	for _, c := range []struct {
		what   string
		change func(*controlapi.RelayJoinRequest)
		want   controlapi.Code
	}{
		{"a device's key", func(r *controlapi.RelayJoinRequest) { r.RegKey = devices }, controlapi.CodeKeyRole},
		{"an unknown key", func(r *controlapi.RelayJoinRequest) { r.RegKey = "none" }, controlapi.CodeKeyUnknown},
		{"a name that is no name", func(r *controlapi.RelayJoinRequest) { r.Name = "Not A Label" }, controlapi.CodeNameInvalid},
		{"a taken name", func(r *controlapi.RelayJoinRequest) { r.Name = "taken" }, controlapi.CodeNameTaken},
		{"the service's name", func(r *controlapi.RelayJoinRequest) { r.Name = "service" }, controlapi.CodeNameTaken},
		{"a wrong proof", func(r *controlapi.RelayJoinRequest) { r.Proof = make([]byte, 32) }, controlapi.CodeProof},
		{"no address", address(controlapi.RelayAddress{}), controlapi.CodeInvalid},
		{"no host", address(controlapi.RelayAddress{UDP: []string{":3478"}}), controlapi.CodeInvalid},
		{"no port", address(controlapi.RelayAddress{UDP: []string{"192.0.2.1"}}), controlapi.CodeInvalid},
		{"port 0", address(controlapi.RelayAddress{UDP: []string{"192.0.2.1:0"}}), controlapi.CodeInvalid},
		{"any host", address(controlapi.RelayAddress{UDP: []string{"0.0.0.0:3478"}}), controlapi.CodeInvalid},
		{"no name", address(controlapi.RelayAddress{UDP: []string{"a b:3478"}}), controlapi.CodeInvalid},
		{"too many", address(controlapi.RelayAddress{UDP: slices.Repeat([]string{"192.0.2.1:3478"}, 9)}), controlapi.CodeInvalid},
		{"not encrypted", address(controlapi.RelayAddress{URL: "http://r.example.org"}), controlapi.CodeInvalid},
		{"a path", address(controlapi.RelayAddress{URL: "/v1/relay"}), controlapi.CodeInvalid},
		{"a password", address(controlapi.RelayAddress{URL: "https://u:p@r.example.org"}), controlapi.CodeInvalid},
		{"no pin", address(controlapi.RelayAddress{URL: "https://r.example.org", Pin: "short"}), controlapi.CodeInvalid},
		{"a pin of nothing", address(controlapi.RelayAddress{UDP: []string{"192.0.2.1:3478"}, Pin: controlapi.PinOf(nil)}), controlapi.CodeInvalid},
	} {
		r := relayWish(relays, "r")
		c.change(&r)
		if _, p := w.tryJoinRelay(key.NewPrivate(), r); p == nil || p.Code != c.want {
			t.Errorf("%s: %+v, want %s", c.what, p, c.want)
		}
	}
	_, p := w.tryJoin(key.NewPrivate(), wish(relays, "a"))
	w.refused(p, controlapi.CodeKeyRole)
	for _, r := range []controlapi.RegKeyRequest{{Role: "relay", Ephemeral: true}, {Role: "relay", Tags: []string{"x"}}, {Role: "king"}} {
		p, _ := w.send("POST", "/v1/reg-keys", w.token, r, nil)
		w.refused(p, controlapi.CodeInvalid)
	}
	r := w.joinRelay(relayWish(relays, "r"))
	p, _ = w.send("PUT", "/v1/relays/self", r.Credential, controlapi.RelayHeartbeat{RelayAddress: controlapi.RelayAddress{UDP: []string{":1"}}}, nil)
	w.refused(p, controlapi.CodeInvalid)
	// A device's credential is none of a relay's, and the other way.
	a := w.join(wish(devices, "a"))
	p, _ = w.send("PUT", "/v1/relays/self", a.Credential, controlapi.RelayHeartbeat{RelayAddress: relayAddress("r")}, nil)
	w.refused(p, controlapi.CodeUnauthorized)
	p, _ = w.send("PUT", "/v1/self/relays", r.Credential, controlapi.Homes{Relays: []string{}}, nil)
	w.refused(p, controlapi.CodeUnauthorized)
}

// Stand-alone relays hear of each device that lost its membership, once, and
// what a device is given after it came back counts again.
func TestDenied(t *testing.T) {
	w := start(t, t.TempDir())
	secret := w.regKey(controlapi.RegKeyRequest{})
	r := w.joinRelay(relayWish(w.relayRegKey(), "r"))
	a, b := w.join(wish(secret, "a")), w.join(wish(secret, "b"))
	_, given := w.told(a)
	before, err := relay.ParseCredential(given.Credential)
	if err != nil {
		t.Fatal(err)
	}
	since := func(n uint64) func(*controlapi.RelayHeartbeat) {
		return func(b *controlapi.RelayHeartbeat) { b.Since = n }
	}
	w.admin("DELETE", "/v1/devices/a", nil, nil)
	one := w.beat(r)
	network := relay.NetworkOf(a.Network.ID)
	if len(one.Denied) != 1 || one.Denied[0].Device != a.private.Public() || !slices.Equal(one.Denied[0].Network, network[:]) || one.More {
		t.Fatalf("denied %+v", one)
	}
	until := one.Denied[0].Until
	if until.Before(before.Expires) || time.Until(until) > credentialLife {
		t.Errorf("denied until %v; the credential counts until %v", until, before.Expires)
	}
	// At once, within the second, it joins again.
	back, p := w.tryJoin(a.private, wish(secret, "a"))
	if p != nil {
		t.Fatal(p)
	}
	_, given = w.told(back)
	if after, err := relay.ParseCredential(given.Credential); err != nil || !after.Expires.After(until) {
		t.Errorf("the new credential counts until %v (%v), denied are those until %v", after.Expires, err, until)
	}
	if p, _ := w.send("DELETE", "/v1/self", b.Credential, nil, nil); p != nil {
		t.Fatal(p)
	}
	two := w.beat(r, since(one.Next))
	if len(two.Denied) != 1 || two.Denied[0].Device != b.private.Public() || two.Next <= one.Next {
		t.Errorf("then denied %+v", two)
	}
	if three := w.beat(r, since(two.Next)); len(three.Denied) != 0 || three.Next != two.Next {
		t.Errorf("then denied %+v", three)
	}
	if all := w.beat(r, since(two.Next+1000)); len(all.Denied) != 2 { // of another database
		t.Errorf("ahead: denied %+v", all)
	}

	// What is over is forgotten.
	w.svc.relays.forget(t.Context(), time.Now().Add(credentialLife+denialKept+time.Minute))
	if left := w.beat(r); len(left.Denied) != 1 || left.Next != two.Next { // the newest, for its position
		t.Errorf("left %+v", left)
	}
}
