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
