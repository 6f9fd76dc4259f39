package state

import (
	"testing"

	"nexd/controlapi"
)

// A clone shares nothing with what it is of, the relays of the map included.
func TestCloneSharesNoRelays(t *testing.T) {
	d := Data{Map: &controlapi.Map{
		Self:   controlapi.Device{Relays: []string{"relay_1"}},
		Peers:  []controlapi.Device{{Relays: []string{"relay_1"}}},
		Relays: controlapi.RelayList{Relays: []controlapi.Relay{{ID: "relay_1", UDP: []string{":3478"}}}, Credential: []byte{1}},
	}}
	c := d.Clone()
	c.Map.Self.Relays[0], c.Map.Peers[0].Relays[0] = "x", "x"
	c.Map.Relays.Relays[0].UDP[0], c.Map.Relays.Relays[0].ID, c.Map.Relays.Credential[0] = "x", "x", 9
	for what, got := range map[string]string{
		"own relays": d.Map.Self.Relays[0], "a peer's relays": d.Map.Peers[0].Relays[0],
		"the list of relays": d.Map.Relays.Relays[0].ID, "a relay's addresses": d.Map.Relays.Relays[0].UDP[0],
		"the credential": string(d.Map.Relays.Credential),
	} {
		if got == "x" || got == "\x09" {
			t.Errorf("the clone shares %s", what)
		}
	}
}
