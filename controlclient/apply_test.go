package controlclient_test

import (
	"cmp"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"nexd/controlapi"
	"nexd/controlclient"
	"nexd/key"
)

func device(id, name string) controlapi.Device { return controlapi.Device{ID: id, Name: name} }

func TestApply(t *testing.T) {
	base := controlapi.Map{Epoch: "e", Revision: 5, Self: device("me", "me"), Peers: []controlapi.Device{device("a", "a"), device("b", "b")}}
	renamed := device("me", "renamed")
	delta := func(revision uint64, d controlapi.Delta) controlapi.Event {
		return controlapi.Event{Type: controlapi.EventDelta, Revision: revision, Delta: &d}
	}
	for _, tc := range []struct {
		name     string
		ev       controlapi.Event
		peers    string
		self     string
		revision uint64
	}{
		{"added", delta(6, controlapi.Delta{Upsert: []controlapi.Device{device("aa", "new")}}), "a new b", "me", 6},
		{"changed", delta(6, controlapi.Delta{Upsert: []controlapi.Device{device("a", "x")}}), "x b", "me", 6},
		{"changed twice", delta(6, controlapi.Delta{Upsert: []controlapi.Device{device("a", "x"), device("a", "y")}}), "y b", "me", 6},
		{"removed", delta(6, controlapi.Delta{Remove: []string{"a", "unknown"}}), "b", "me", 6},
		{"replaced", delta(6, controlapi.Delta{Remove: []string{"a"}, Upsert: []controlapi.Device{device("a", "x")}}), "x b", "me", 6},
		{"own record", delta(6, controlapi.Delta{Self: &renamed}), "a b", "renamed", 6},
		{"own record among the peers", delta(6, controlapi.Delta{Upsert: []controlapi.Device{renamed}}), "a b", "me", 6},
		{"the same revision again", delta(5, controlapi.Delta{Remove: []string{"a"}}), "b", "me", 5},
		{"older", delta(4, controlapi.Delta{Remove: []string{"a"}}), "a b", "me", 5},
		{"heartbeat", controlapi.Event{Type: controlapi.EventHeartbeat, Revision: 9}, "a b", "me", 9},
		{"late heartbeat", controlapi.Event{Type: controlapi.EventHeartbeat, Revision: 3}, "a b", "me", 5},
		{"snapshot", controlapi.Event{Type: controlapi.EventSnapshot, Revision: 2, Map: &controlapi.Map{
			Epoch: "f", Revision: 2, Self: renamed, Peers: []controlapi.Device{device("d", "d"), device("c", "c")},
		}}, "c d", "renamed", 2},
		{"goodbye", controlapi.Event{Type: controlapi.EventBye, Revision: 9}, "a b", "me", 5},
		{"nothing in it", controlapi.Event{Type: controlapi.EventDelta, Revision: 9}, "a b", "me", 5},
		{"no snapshot in it", controlapi.Event{Type: controlapi.EventSnapshot}, "a b", "me", 5},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := base
			before := slices.Clone(base.Peers)
			controlclient.Apply(&m, tc.ev)
			got := ""
			for i, p := range m.Peers {
				if i > 0 {
					got += " "
				}
				got += p.Name
			}
			if got != tc.peers || m.Self.Name != tc.self || m.Revision != tc.revision {
				t.Errorf("got peers %q, self %q, revision %d", got, m.Self.Name, m.Revision)
			}
			if !reflect.DeepEqual(before, base.Peers) {
				t.Error("the peers of an older copy changed")
			}
		})
	}
}

// A snapshot and every delta after it make the same map as the last snapshot,
// wherever the stream began, was cut, and repeated itself.
func TestApplyDeltasMakeTheFinalState(t *testing.T) {
	keys := make([]key.Public, 4)
	for i := range keys {
		keys[i] = key.NewPrivate().Public()
	}
	rapid.Check(t, func(t *rapid.T) {
		state := map[string]controlapi.Device{}
		self := device("self", "self")
		snapshot := func(revision uint64) controlapi.Map {
			return controlapi.Map{Epoch: "e", Revision: revision, Self: self, Peers: slices.SortedFunc(maps.Values(state), func(a, b controlapi.Device) int { return cmp.Compare(a.ID, b.ID) })}
		}
		id := rapid.StringMatching(`dev-[0-7]`)
		begin := rapid.IntRange(0, 10).Draw(t, "begin")
		steps := rapid.IntRange(begin, 30).Draw(t, "steps")
		var m controlapi.Map
		var past []controlapi.Event
		for revision := range uint64(steps + 1) {
			d := &controlapi.Delta{}
			for range rapid.IntRange(0, 3).Draw(t, "changes") {
				switch who := id.Draw(t, "id"); rapid.IntRange(0, 3).Draw(t, "kind") {
				case 0:
					delete(state, who)
					d.Remove = append(d.Remove, who)
					d.Upsert = slices.DeleteFunc(d.Upsert, func(dev controlapi.Device) bool { return dev.ID == who })
				case 1:
					self.Name = fmt.Sprintf("self-%d", revision)
					changed := self
					d.Self = &changed
				default:
					state[who] = controlapi.Device{ID: who, Name: rapid.StringMatching(`[a-z]{1,3}`).Draw(t, "name"), PublicKey: rapid.SampledFrom(keys).Draw(t, "key")}
					d.Upsert = append(d.Upsert, state[who])
				}
			}
			ev := controlapi.Event{Type: controlapi.EventDelta, Revision: revision, Delta: d}
			switch {
			case int(revision) == begin:
				s := snapshot(revision)
				ev = controlapi.Event{Type: controlapi.EventSnapshot, Revision: revision, Map: &s}
			case int(revision) < begin:
				continue
			}
			past = append(past, ev)
			controlclient.Apply(&m, ev)
			// What was lost is repeated, now and then, and changes nothing.
			if rapid.Bool().Draw(t, "again") {
				controlclient.Apply(&m, past[len(past)-1])
			}
			if old := rapid.IntRange(0, len(past)-1).Draw(t, "old"); past[old].Type == controlapi.EventDelta {
				controlclient.Apply(&m, past[old])
			}
		}
		want := snapshot(uint64(steps))
		if len(want.Peers) == 0 {
			want.Peers = m.Peers[:0]
		}
		if !reflect.DeepEqual(m, want) {
			t.Fatalf("got  %+v\nwant %+v", m, want)
		}
	})
}
