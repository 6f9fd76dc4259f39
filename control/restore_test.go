package control

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/controlclient"
)

// A database that was put back from a backup must not give revisions a second
// time: a device that knows the lost ones gets the whole map, not what follows
// them; one whose map is of before the backup goes on, as over any restart.
func TestRestoredDatabase(t *testing.T) {
	dir, backup := t.TempDir(), filepath.Join(t.TempDir(), "state")
	w := start(t, dir)
	secret := w.regKey(controlapi.RegKeyRequest{})
	a := w.join(wish(secret, "a"))
	early := *w.mustWatch(a, "").expect(controlapi.EventSnapshot).Map
	w.join(wish(secret, "b"))
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(backup, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}

	w = start(t, dir)
	w.join(wish(secret, "lost"))
	lost := *w.mustWatch(a, "").expect(controlapi.EventSnapshot).Map
	if err := w.end(); err != nil {
		t.Fatal(err)
	}

	w = start(t, backup)
	w.join(wish(secret, "c"))
	for _, one := range []struct {
		what string
		m    controlapi.Map
		with controlapi.EventType
	}{
		{"of the time that was lost", lost, controlapi.EventSnapshot},
		{"of before the backup", early, controlapi.EventDelta},
	} {
		e, ok := w.mustWatch(a, since(&one.m, one.m.Revision)).any()
		if !ok || e.Type != one.with {
			t.Errorf("a map %s begins with %s, want %s", one.what, e.Type, one.with)
		}
		controlclient.Apply(&one.m, e)
		var names []string
		for _, p := range one.m.Peers {
			names = append(names, p.Name)
		}
		slices.Sort(names)
		if want := []string{"b", "c"}; !slices.Equal(names, want) {
			t.Errorf("a map %s has %v, want %v", one.what, names, want)
		}
	}
}

// Restarts alone cost nobody a snapshot, also where the device has learnt
// nothing of those in between.
func TestMapsOutliveRestarts(t *testing.T) {
	dir := t.TempDir()
	w := start(t, dir)
	secret := w.regKey(controlapi.RegKeyRequest{})
	a := w.join(wish(secret, "a"))
	m := *w.mustWatch(a, "").expect(controlapi.EventSnapshot).Map
	for i, name := range []string{"", "b", "", "", "c", "d"} {
		if err := w.end(); err != nil {
			t.Fatal(err)
		}
		w = start(t, dir)
		want := controlapi.EventHeartbeat
		if name != "" {
			w.join(wish(secret, name))
			want = controlapi.EventDelta
		}
		e, ok := w.mustWatch(a, since(&m, m.Revision)).any()
		if !ok || e.Type != want {
			t.Errorf("after restart %d the stream begins with %s, want %s", i, e.Type, want)
		}
		if e.Type == controlapi.EventDelta { // a heartbeat may be forgotten
			controlclient.Apply(&m, e)
		}
	}
	if len(m.Peers) != 3 {
		t.Errorf("%d peers, want 3", len(m.Peers))
	}
}

// With a clock that is wrong, or after a crash in the middle of a start, the
// numbers still go up, and a map of before is known.
func TestHistoryContinues(t *testing.T) {
	db, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "control.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	n, err := db.EnsureNetwork(t.Context(), "default", "nexd.internal", DefaultCIDR, randomULA())
	if err != nil {
		t.Fatal(err)
	}
	begin := func(now time.Time) history {
		t.Helper()
		if n, err = db.Network(t.Context(), n.ID); err != nil {
			t.Fatal(err)
		}
		before := n.Revision
		var h history
		if h, n, err = continueHistory(t.Context(), db, n, now); err != nil {
			t.Fatal(err)
		}
		if got, err := db.Network(t.Context(), n.ID); err != nil || got.Revision != n.Revision || before > 0 && n.Revision <= before {
			t.Fatalf("revision %d (%v), want %d, above %d", got.Revision, err, n.Revision, before)
		}
		if !h.has(before) || !h.has(n.Revision) {
			t.Fatalf("history %v lacks %d or %d", h, before, n.Revision)
		}
		return h
	}
	now := time.Unix(1_800_000_000, 0)
	if begin(now); n.Revision != 0 {
		t.Errorf("a new network begins at %d", n.Revision)
	}
	if err := db.SkipRevisions(t.Context(), n.ID, 40); err != nil {
		t.Fatal(err)
	}
	h := begin(now)
	if h.has(41) || !h.has(40) || h.has(n.Revision-1) {
		t.Errorf("history %v", h)
	}
	begin(time.Unix(0, 0)) // the clock is reset
	begin(now.Add(-time.Hour))
	for range 2 * keptSpans {
		now = now.Add(time.Minute)
		h = begin(now)
	}
	if len(h) > keptSpans+1 || h.has(40) {
		t.Errorf("%d spans are kept, the first one among them: %v", len(h), h.has(40))
	}
	// Noted, and ended before the numbers were skipped.
	never := n.Revision + 1000
	if err := db.PutSetting(t.Context(), settingHistory, fmt.Sprintf(`[{"first":0,"last":%d},{"first":%d,"last":0}]`, n.Revision, never)); err != nil {
		t.Fatal(err)
	}
	if h = begin(now.Add(time.Minute)); h.has(never) {
		t.Errorf("history %v has %d, which was never given", h, never)
	}
}
