package controlclient

import (
	"encoding/json"
	"errors"
	"net/netip"
	"reflect"
	"testing"

	"nexd/controlapi"
	"nexd/key"
)

// FuzzDecodeEvent: no line does harm, what is returned is fit for use, and it
// survives a second journey unchanged.
func FuzzDecodeEvent(f *testing.F) {
	d := controlapi.Device{ID: "a", Name: "web", PublicKey: key.NewPrivate().Public(), Addresses: []netip.Addr{netip.MustParseAddr("100.64.0.1")}}
	for _, ev := range []controlapi.Event{
		{Type: controlapi.EventSnapshot, Revision: 3, Map: &controlapi.Map{Epoch: "e", Revision: 3, Self: d, Peers: []controlapi.Device{d}, STUN: []string{":3478"}}},
		{Type: controlapi.EventDelta, Revision: 4, Delta: &controlapi.Delta{Self: &d, Upsert: []controlapi.Device{d}, Remove: []string{"b"}}},
		{Type: controlapi.EventSignal, Signal: &controlapi.Signal{From: d.PublicKey, Payload: []byte("x")}},
		{Type: controlapi.EventHeartbeat, Revision: 9},
		{Type: controlapi.EventBye, Reason: controlapi.ByeDeleted},
		{Type: controlapi.EventRelays, Relays: &controlapi.RelayList{Credential: []byte("c"), Relays: []controlapi.Relay{
			{ID: "r", Name: "eu", PublicKey: d.PublicKey, UDP: []string{":3478"}, URL: "/v1/relay"},
		}}},
		{Type: "of the future"},
	} {
		b, err := json.Marshal(ev)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(`{"type":"delta","delta":{"upsert":[{"id":"a","public_key":"x"},{"id":7},null,[]]}}`))
	f.Add([]byte(`{"type":"snapshot","map":{"epoch":"e","self":{"id":"a"},"peers":{}}}`))
	f.Add([]byte(`{"type":"delta","map":{"peers":[1]},"delta":null}`))
	f.Add([]byte(`{"type":"relays","relays":{"relays":[{"id":"r","public_key":"x"},{"id":7},null],"credential":"AAAA"}}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		ev, _, err := decodeEvent(line)
		if err != nil {
			var broken *protocolError
			if !errors.As(err, &broken) || len(err.Error()) > 1000 {
				t.Fatalf("%T %v", err, err)
			}
			return
		}
		var m controlapi.Map
		Apply(&m, ev)
		for _, p := range m.Peers {
			if !sound(p) {
				t.Fatalf("peer %+v", p)
			}
		}
		b, err := json.Marshal(ev)
		if err != nil {
			t.Fatalf("encode %+v: %v", ev, err)
		}
		again, skipped, err := decodeEvent(b)
		if err != nil || len(skipped) != 0 {
			t.Fatalf("decode %s: %v %v", b, skipped, err)
		}
		c, err := json.Marshal(again)
		if err != nil || !reflect.DeepEqual(b, c) {
			t.Fatalf("%s\nbecame %s (%v)", b, c, err)
		}
	})
}

// A relay that cannot be understood, or not be reached, is left out; the others
// and the credential stay.
func TestDecodeRelays(t *testing.T) {
	good := `{"id":"good","name":"g","public_key":"` + key.NewPrivate().Public().String() + `","udp":[":3478"],"url":"/v1/relay","added_later":1}`
	with := func(field, value string) string {
		return `{"id":"bad","public_key":"` + key.NewPrivate().Public().String() + `","` + field + `":` + value + `}`
	}
	for what, bad := range map[string]string{
		"no relay": "7", "a key that is none": `{"id":"bad","public_key":"x","udp":[":1"]}`, "no key": `{"id":"bad","udp":[":1"]}`,
		"no id": `{"public_key":"` + key.NewPrivate().Public().String() + `","udp":[":1"]}`, "no address": with("name", `"b"`),
		"no port": with("udp", `["192.0.2.1"]`), "a number": with("udp", "[5]"), "not encrypted": with("url", `"http://x.example"`),
		"a pin of nothing": with("pin", `"x"`),
	} {
		ev, skipped, err := decodeEvent([]byte(`{"type":"relays","relays":{"relays":[` + bad + "," + good + `],"credential":"AAAA"}}`))
		if err != nil || len(skipped) != 1 || len(ev.Relays.Relays) != 1 || ev.Relays.Relays[0].ID != "good" || len(ev.Relays.Credential) != 3 {
			t.Errorf("%s: %+v, %q, %v", what, ev.Relays, skipped, err)
		}
	}
	if _, _, err := decodeEvent([]byte(`{"type":"relays"}`)); err == nil {
		t.Error("no list is taken for one")
	}
}

func TestApplyRelays(t *testing.T) {
	list := func(id string) *controlapi.RelayList {
		return &controlapi.RelayList{Relays: []controlapi.Relay{{ID: id}}, Credential: []byte(id)}
	}
	m := controlapi.Map{Epoch: "e", Revision: 5}
	Apply(&m, controlapi.Event{Type: controlapi.EventRelays, Relays: list("one")})
	Apply(&m, controlapi.Event{Type: controlapi.EventRelays})
	Apply(&m, controlapi.Event{Type: controlapi.EventSnapshot, Map: &controlapi.Map{Epoch: "f", Revision: 1}})
	if !reflect.DeepEqual(m, controlapi.Map{Epoch: "f", Revision: 1, Relays: *list("one")}) {
		t.Errorf("a snapshot leaves %+v", m)
	}
	Apply(&m, controlapi.Event{Type: controlapi.EventRelays, Relays: list("two")})
	if !reflect.DeepEqual(m.Relays, *list("two")) || m.Revision != 1 {
		t.Errorf("a newer list leaves %+v", m)
	}
}
