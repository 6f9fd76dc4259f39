package controlapi_test

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/key"
)

// Every field that decides a join's outcome is under the proof, and fields do
// not run into each other.
func TestTranscript(t *testing.T) {
	base := controlapi.JoinRequest{
		RegKey: "secret", PublicKey: key.NewPrivate().Public(), Token: "token", Name: "web",
		OnNameTaken: controlapi.NameRefuse, RequestIP: netip.MustParseAddr("100.64.0.7"),
	}
	change := map[string]func(*controlapi.JoinRequest){
		"registration key": func(r *controlapi.JoinRequest) { r.RegKey = "secre" },
		"public key":       func(r *controlapi.JoinRequest) { r.PublicKey = key.NewPrivate().Public() },
		"token":            func(r *controlapi.JoinRequest) { r.Token = "other" },
		"name":             func(r *controlapi.JoinRequest) { r.Name = "db" },
		"on name taken":    func(r *controlapi.JoinRequest) { r.OnNameTaken = controlapi.NameNumber },
		"no address":       func(r *controlapi.JoinRequest) { r.RequestIP = netip.Addr{} },
		"ephemeral":        func(r *controlapi.JoinRequest) { r.Ephemeral = true },
		"shifted":          func(r *controlapi.JoinRequest) { r.RegKey, r.Name = "secretw", "eb" },
	}
	want := base.Transcript()
	for name, f := range change {
		r := base
		f(&r)
		if bytes.Equal(r.Transcript(), want) {
			t.Errorf("%s is not covered", name)
		}
	}
	r := base
	r.Proof, r.Version, r.OS = []byte("x"), "v1", "linux"
	if !bytes.Equal(r.Transcript(), want) {
		t.Error("the proof covers what does not decide")
	}
}

func TestMessagesSurviveJSON(t *testing.T) {
	d := controlapi.Device{
		ID: "dev-1", Name: "web", PublicKey: key.NewPrivate().Public(), Tags: []string{"t"},
		Addresses: []netip.Addr{netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("fd00::1")},
	}
	network := controlapi.Network{ID: "n", Name: "default", Domain: controlapi.DefaultDomain, CIDRs: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}}
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, in := range []any{
		controlapi.Challenge{ServerKey: d.PublicKey, Token: "t"},
		controlapi.JoinRequest{RegKey: "k", PublicKey: d.PublicKey, Token: "t", Proof: []byte{1, 2}, Name: "web", RequestIP: d.Addresses[0]},
		controlapi.JoinRequest{PublicKey: d.PublicKey},
		controlapi.JoinResponse{Device: d, Network: network, Credential: "c"},
		controlapi.Event{Type: controlapi.EventRelays, Relays: &controlapi.RelayList{
			Relays: []controlapi.Relay{{ID: "r", Name: "eu", PublicKey: d.PublicKey, UDP: []string{":3478"}, URL: "/v1/relay", Pin: "p"}}, Credential: []byte("c"),
		}},
		controlapi.Homes{Relays: []string{"r"}},
		controlapi.RelayJoinRequest{RegKey: "k", PublicKey: d.PublicKey, RelayAddress: controlapi.RelayAddress{UDP: []string{"a:1"}, URL: "https://a", Pin: "p"}},
		controlapi.RelayHeartbeat{RelayAddress: controlapi.RelayAddress{UDP: []string{"a:1"}}, Draining: true, Since: 7},
		controlapi.RelayHeartbeatAnswer{
			Issuers: [][]byte{{1}}, Denied: []controlapi.RelayDenied{{Network: make([]byte, 16), Device: d.PublicKey, Until: now}}, Next: 8, More: true,
		},
		controlapi.RelayInfoList{Relays: []controlapi.RelayInfo{{Relay: controlapi.Relay{ID: "r", Name: "eu", PublicKey: d.PublicKey}, Listed: true, Created: now, LastSeen: now}}},
		controlapi.Event{Type: controlapi.EventSnapshot, Revision: 7, Map: &controlapi.Map{Epoch: "e", Revision: 7, Self: d, Network: network, Peers: []controlapi.Device{d}, STUN: []string{":3478"}}},
		controlapi.Event{Type: controlapi.EventDelta, Revision: 8, Delta: &controlapi.Delta{Self: &d, Upsert: []controlapi.Device{d}, Remove: []string{"x"}}},
		controlapi.Event{Type: controlapi.EventSignal, Signal: &controlapi.Signal{From: d.PublicKey, Payload: []byte{0, 255}}},
		controlapi.Event{Type: controlapi.EventBye, Reason: controlapi.ByeReplaced},
		controlapi.RegKeyCreated{RegKeyInfo: controlapi.RegKeyInfo{ID: "k", Created: now, Tags: []string{"t"}}, Key: "https://svc#s"},
		controlapi.DeviceInfo{Device: d, Connected: true, Created: now},
		controlapi.Problem{Status: 409, Code: controlapi.CodeNameTaken, Detail: "taken", Hint: "choose another"},
		controlapi.AdminFile{URL: "https://svc", Token: "t", Pin: string(pin)},
	} {
		b, err := json.Marshal(in)
		if err != nil {
			t.Errorf("%T: %v", in, err)
			continue
		}
		out := reflect.New(reflect.TypeOf(in))
		if err := json.Unmarshal(b, out.Interface()); err != nil || !reflect.DeepEqual(out.Elem().Interface(), in) {
			t.Errorf("%T: %s\nread as %+v (%v)", in, b, out.Elem(), err)
		}
		if strings.Contains(string(b), "0001-01-01") {
			t.Errorf("%T: a time that was never set is written: %s", in, b)
		}
	}
}

func TestProblemReadsAsASentence(t *testing.T) {
	for want, p := range map[string]controlapi.Problem{
		"the name is taken": {Detail: "the name is taken", Title: "conflict", Code: controlapi.CodeNameTaken},
		"conflict":          {Title: "conflict", Code: controlapi.CodeNameTaken},
		"name_taken":        {Code: controlapi.CodeNameTaken},
	} {
		if got := p.Error(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

// FuzzCleanName: whatever a host is called, the result is a name or nothing.
func FuzzCleanName(f *testing.F) {
	for _, s := range []string{"web", "Web.example.com", "-a-", "Björk's Mac", "..", "", strings.Repeat("a", 100), strings.Repeat("-", 70) + "a", "İ"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, host string) {
		name := controlapi.CleanName(host)
		if name == "" {
			return
		}
		if err := controlapi.CheckName(name); err != nil {
			t.Errorf("%q became %q: %v", host, name, err)
		}
		if again := controlapi.CleanName(name); again != name {
			t.Errorf("%q became %q and then %q", host, name, again)
		}
	})
}

func TestCheckName(t *testing.T) {
	for _, s := range []string{"a", "web", "web-2", "0", "a--b", strings.Repeat("a", 63)} {
		if err := controlapi.CheckName(s); err != nil {
			t.Error(err)
		}
	}
	for _, s := range []string{"", "-a", "a-", "A", "a.b", "a_b", "a b", "ä", "a\n", "a\x00", strings.Repeat("a", 64), strings.Repeat("ä", 5000)} {
		err := controlapi.CheckName(s)
		if err == nil {
			t.Errorf("%q is taken", s)
		} else if len(err.Error()) > 300 {
			t.Errorf("an error of %d bytes", len(err.Error()))
		}
	}
}
