package controlclient

import (
	"encoding/json"
	"errors"
	"fmt"

	"nexd/controlapi"
)

// looseEvent is an event whose devices and relays are not looked at yet.
type looseEvent struct {
	controlapi.Event
	Map    *looseMap    `json:"map"`
	Delta  *looseDelta  `json:"delta"`
	Relays *looseRelays `json:"relays"`
}

type looseMap struct {
	controlapi.Map
	Peers []json.RawMessage `json:"peers"`
}

type looseDelta struct {
	controlapi.Delta
	Upsert []json.RawMessage `json:"upsert"`
}

type looseRelays struct {
	controlapi.RelayList
	Relays []json.RawMessage `json:"relays"`
}

// decodeEvent reads one line of the stream. A peer or relay that cannot be
// understood is left out and named in skipped, so that one's bad data never
// costs another its map. What makes an event useless is a *protocolError. An event of
// an unknown type is returned with its type alone.
func decodeEvent(line []byte) (ev controlapi.Event, skipped []string, err error) {
	var head struct{ Type controlapi.EventType }
	if json.Unmarshal(line, &head) == nil && !known(head.Type) {
		return controlapi.Event{Type: head.Type}, nil, nil
	}
	if json.Unmarshal(line, &ev) != nil {
		var loose looseEvent
		if err := json.Unmarshal(line, &loose); err != nil {
			return ev, nil, &protocolError{fmt.Sprintf("not an event: %v", clip(err.Error()))}
		}
		ev = loose.Event
		if loose.Map != nil {
			ev.Map = &loose.Map.Map
			ev.Map.Peers, skipped = readable(loose.Map.Peers)
		}
		if loose.Delta != nil {
			ev.Delta = &loose.Delta.Delta
			ev.Delta.Upsert, skipped = readable(loose.Delta.Upsert)
		}
		if loose.Relays != nil {
			ev.Relays = &loose.Relays.RelayList
			ev.Relays.Relays, skipped = readableRelays(loose.Relays.Relays)
		}
	}
	var unsound []string
	switch ev.Type {
	case controlapi.EventSnapshot:
		if ev.Map == nil || ev.Map.Epoch == "" || !sound(ev.Map.Self) {
			return ev, nil, &protocolError{"a snapshot lacks its map, epoch or own device"}
		}
		ev.Map.Peers, unsound = soundOnly(ev.Map.Peers)
	case controlapi.EventDelta:
		if ev.Delta == nil || ev.Delta.Self != nil && !sound(*ev.Delta.Self) {
			return ev, nil, &protocolError{"a change lacks its contents"}
		}
		ev.Delta.Upsert, unsound = soundOnly(ev.Delta.Upsert)
	case controlapi.EventSignal:
		if ev.Signal == nil || ev.Signal.From.IsZero() || len(ev.Signal.Payload) > controlapi.MaxSignal {
			return ev, nil, &protocolError{"a signal lacks its sender or is too long"}
		}
	case controlapi.EventRelays:
		if ev.Relays == nil {
			return ev, nil, &protocolError{"an event about relays lacks their list"}
		}
		ev.Relays.Relays, unsound = soundRelays(ev.Relays.Relays)
	case controlapi.EventHeartbeat, controlapi.EventBye:
	}
	return ev, append(skipped, unsound...), nil
}

// known reports whether this version understands events of a type.
func known(t controlapi.EventType) bool {
	switch t {
	case controlapi.EventSnapshot, controlapi.EventDelta, controlapi.EventHeartbeat, controlapi.EventSignal,
		controlapi.EventRelays, controlapi.EventBye:
		return true
	}
	return false
}

// readable decodes devices one by one.
func readable(raw []json.RawMessage) (devices []controlapi.Device, skipped []string) {
	devices = make([]controlapi.Device, 0, len(raw))
	for _, r := range raw {
		var d controlapi.Device
		if err := json.Unmarshal(r, &d); err != nil {
			skipped = append(skipped, printable(fmt.Sprintf("device %q: %v", d.ID, err)))
			continue
		}
		devices = append(devices, d)
	}
	return devices, skipped
}

// sound reports whether a device can be told apart at all.
func sound(d controlapi.Device) bool { return d.ID != "" && !d.PublicKey.IsZero() }

// soundOnly filters in place.
func soundOnly(devices []controlapi.Device) (kept []controlapi.Device, skipped []string) {
	kept = devices[:0]
	for _, d := range devices {
		if sound(d) {
			kept = append(kept, d)
			continue
		}
		skipped = append(skipped, printable(fmt.Sprintf("device %q (%q) lacks its id or key", d.ID, d.Name)))
	}
	return kept, skipped
}

// readableRelays decodes relays one by one.
func readableRelays(raw []json.RawMessage) (relays []controlapi.Relay, skipped []string) {
	relays = make([]controlapi.Relay, 0, len(raw))
	for _, b := range raw {
		var r controlapi.Relay
		if err := json.Unmarshal(b, &r); err != nil {
			skipped = append(skipped, printable(fmt.Sprintf("relay %q: %v", r.ID, err)))
			continue
		}
		relays = append(relays, r)
	}
	return relays, skipped
}

// soundRelays filters in place: what is kept can be told apart and reached.
func soundRelays(relays []controlapi.Relay) (kept []controlapi.Relay, skipped []string) {
	kept = relays[:0]
	for _, r := range relays {
		if err := checkRelay(r); err != nil {
			skipped = append(skipped, printable(fmt.Sprintf("relay %q (%q): %v", r.ID, r.Name, err)))
			continue
		}
		kept = append(kept, r)
	}
	return kept, skipped
}

func checkRelay(r controlapi.Relay) error {
	if r.ID == "" || r.PublicKey.IsZero() {
		return errors.New("lacks its id or key")
	}
	at, err := r.At("https://localhost")
	if err != nil {
		return err
	}
	return controlapi.RelayAddress{UDP: at.UDP, URL: at.URL, Pin: at.Pin}.Check()
}
