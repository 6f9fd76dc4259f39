package controlclient

import (
	"slices"
	"strings"

	"nexd/controlapi"
)

// Apply brings m up to date with one event of the stream; it is a function of
// its arguments alone. A snapshot replaces m but for its relays, which come in
// events of their own, each with the whole list; a delta older than m changes
// nothing, a heartbeat moves the revision on, anything else is no concern of
// the map. Peers are kept ordered by id. The map's own slices are replaced,
// never written to, so a shallow copy of m made before stays as it was; records
// are shared with ev, which must not be changed afterwards.
func Apply(m *controlapi.Map, ev controlapi.Event) {
	switch ev.Type {
	case controlapi.EventSnapshot:
		if ev.Map != nil {
			relays := m.Relays
			*m = *ev.Map
			m.Relays = relays
			m.Peers = slices.SortedFunc(slices.Values(ev.Map.Peers), byID)
		}
	case controlapi.EventDelta:
		if ev.Delta != nil && ev.Revision >= m.Revision {
			applyDelta(m, ev.Delta)
			m.Revision = ev.Revision
		}
	case controlapi.EventHeartbeat:
		m.Revision = max(m.Revision, ev.Revision)
	case controlapi.EventRelays:
		if ev.Relays != nil {
			m.Relays = *ev.Relays
		}
	case controlapi.EventSignal, controlapi.EventBye:
	}
}

// applyDelta removes first: an id in both lists was replaced.
func applyDelta(m *controlapi.Map, d *controlapi.Delta) {
	if d.Self != nil {
		m.Self = *d.Self
	}
	if len(d.Upsert) == 0 && len(d.Remove) == 0 {
		return
	}
	gone := make(map[string]bool, len(d.Remove)+len(d.Upsert))
	for _, id := range d.Remove {
		gone[id] = true
	}
	newest := make(map[string]controlapi.Device, len(d.Upsert))
	for _, dev := range d.Upsert {
		gone[dev.ID] = true
		newest[dev.ID] = dev
	}
	delete(newest, m.Self.ID) // a device is not its own peer
	peers := make([]controlapi.Device, 0, len(m.Peers)+len(newest))
	for _, dev := range m.Peers {
		if !gone[dev.ID] {
			peers = append(peers, dev)
		}
	}
	for _, dev := range newest {
		peers = append(peers, dev)
	}
	slices.SortFunc(peers, byID)
	m.Peers = peers
}

func byID(a, b controlapi.Device) int { return strings.Compare(a.ID, b.ID) }
