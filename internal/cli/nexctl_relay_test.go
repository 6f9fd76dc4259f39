package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"nexd/controlapi"
)

func TestRelayTable(t *testing.T) {
	now := time.Now()
	var b bytes.Buffer
	w := &tables{Writer: &b, header: true}
	relayInfoTable(w, []controlapi.RelayInfo{
		{Relay: controlapi.Relay{Name: "service", ID: "relay_1", UDP: []string{":3478"}, URL: "/v1/relay"}, Embedded: true, Listed: true, Devices: 3},
		{Relay: controlapi.Relay{Name: "far", ID: "relay_2", UDP: []string{"192.0.2.7:3478", "[2001:db8::7]:3478"}}, LastSeen: now.Add(-time.Hour), Version: "v1\x1b[2J"},
		{Relay: controlapi.Relay{Name: "old", ID: "relay_3"}, Draining: true, LastSeen: now},
	}, now)
	lines := strings.Split(b.String(), "\n")
	for i, want := range []string{
		"NAME ID KIND LISTED LAST SEEN UDP URL HOME OF VERSION",
		"service relay_1 embedded yes now :3478 /v1/relay 3 -",
		"far relay_2 stand-alone no 1h ago 192.0.2.7:3478,[2001:db8::7]:3478 - 0 v1�[2J",
		"old relay_3 draining no 0s ago - - 0 -",
	} {
		if got := strings.Join(strings.Fields(lines[i]), " "); got != want {
			t.Errorf("line %d: %q, want %q", i, got, want)
		}
	}
}

func TestKeysForRelaysSayNothingOfDevices(t *testing.T) {
	for flag, req := range map[string]controlapi.RegKeyRequest{
		"--ephemeral": {Ephemeral: true}, "--reclaim": {Reclaim: true}, "--tag": {Tags: []string{"a"}},
	} {
		if e := explain(checkRelayKey(req)); e == nil || e.Code != exitUsage || !strings.Contains(e.Message, "--relay and "+flag) || e.Hint == "" {
			t.Errorf("%s: %v", flag, e)
		}
	}
	if err := checkRelayKey(controlapi.RegKeyRequest{SingleUse: true, Description: "d"}); err != nil {
		t.Error(err)
	}
	var b bytes.Buffer
	regKeyTable(&tables{Writer: &b}, []controlapi.RegKeyInfo{{ID: "key_1", Role: controlapi.RoleRelay, SingleUse: true}}, time.Now())
	if !strings.HasPrefix(b.String(), "key_1  relay,single-use") {
		t.Errorf("%s", &b)
	}
}
