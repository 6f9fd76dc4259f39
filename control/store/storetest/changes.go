package storetest

import (
	"errors"
	"fmt"
	"math"
	"testing"
	"time"

	"nexd/control/store"
)

func testChanges(t *testing.T, w *world) {
	k := w.regKey("k")
	a, b := w.join(w.wish(k, "a")), w.join(w.wish(k, "b"))
	equal(t, "revisions", []uint64{a.Revision, b.Revision}, []uint64{1, 2})
	c, err := w.Changes(ctx, w.net.ID, 1)
	w.must(err)
	equal(t, "changes since 1", c, store.Changes{Revision: 2, Upsert: []store.Device{b}})
	w.delete(a.ID, w.now)
	c, err = w.Changes(ctx, w.net.ID, 2)
	w.must(err)
	equal(t, "changes since 2", c, store.Changes{Revision: 3, Remove: []store.Tombstone{{ID: a.ID, Revision: 3}}})
	c, err = w.Changes(ctx, w.net.ID, 3)
	w.must(err)
	equal(t, "no changes", c, store.Changes{Revision: 3})
	c, err = w.Changes(ctx, w.net.ID, math.MaxUint64)
	w.must(err)
	equal(t, "ahead", c, store.Changes{Revision: 3, Whole: true, Upsert: []store.Device{b}})
	if _, err := w.Changes(ctx, "net_none", 0); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("changes of no network: %v", err)
	}
}

func testPrune(t *testing.T, w *world) {
	k := w.regKey("k")
	for i := range 4 {
		w.delete(w.join(w.wish(k, fmt.Sprint("d", i))).ID, w.now) // revisions 2, 4, 6, 8 delete
	}
	w.must(w.PruneTombstones(ctx, w.net.ID, 2))
	w.must(w.PruneTombstones(ctx, w.net.ID, 2))
	c, err := w.Changes(ctx, w.net.ID, 3)
	w.must(err)
	equal(t, "before what is known", c.Whole, true)
	c, err = w.Changes(ctx, w.net.ID, 4)
	w.must(err)
	equal(t, "since the last forgotten", []any{c.Whole, len(c.Remove)}, []any{false, 2})
}

func testUpdate(t *testing.T, w *world) {
	k := w.regKey("k")
	a := w.join(w.wish(k, "a"))
	w.join(w.wish(k, "b"))
	name, tags := "c", []string{"x", "x", "a"}
	d, err := w.UpdateDevice(ctx, w.net.ID, a.ID, store.Update{Name: &name, Tags: &tags})
	w.must(err)
	equal(t, "updated", []any{d.Name, d.Tags, d.Revision}, []any{"c", []string{"a", "x"}, uint64(3)})
	taken := "b"
	var refused *store.NameTakenError
	if _, err := w.UpdateDevice(ctx, w.net.ID, a.ID, store.Update{Name: &taken}); !errors.As(err, &refused) {
		t.Errorf("taken name: %v", err)
	}
	if _, err := w.UpdateDevice(ctx, w.net.ID, "dev_none", store.Update{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no device: %v", err)
	}
}

func testDeleteKeep(t *testing.T, w *world) {
	a := w.join(w.wish(w.regKey("k"), "a"))
	_, ok, err := w.DeleteDevice(ctx, w.net.ID, "a", store.Deletion{Rest: w.now}, func(d store.Device) bool { return d.ID == a.ID })
	w.must(err)
	equal(t, "deleted", ok, false)
	equal(t, "revision", w.revision(), a.Revision)
	w.delete("a", w.now)
	if _, _, err := w.DeleteDevice(ctx, w.net.ID, "a", store.Deletion{Rest: w.now}, nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("second deletion: %v", err)
	}
}

func testScope(t *testing.T, w *world) {
	first, k := w.net, w.regKey("k", reusable)
	a := w.join(w.wish(k, "a"))
	w.net = w.network("second", "100.64.0.0/24")
	w.refused(w.wish(k, "a"), store.ErrKeyUnknown)
	other := w.join(w.wish(w.regKey("k2"), "a"))
	equal(t, "the same name and address again", []any{other.Name, other.V4}, []any{a.Name, a.V4})
	if _, err := w.Device(ctx, w.net.ID, a.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("device of another network: %v", err)
	}
	if _, _, err := w.DeleteDevice(ctx, w.net.ID, a.ID, store.Deletion{Rest: w.now}, nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("deletion from another network: %v", err)
	}
	ds, err := w.Devices(ctx, first.ID)
	w.must(err)
	equal(t, "devices of the first", ids(ds), []string{a.ID})
}

func testTouch(t *testing.T, w *world) {
	a := w.join(w.wish(w.regKey("k"), "a"))
	w.must(w.Touch(ctx, w.net.ID, map[string]time.Time{a.ID: w.now, "dev_none": w.now}))
	w.must(w.Touch(ctx, w.net.ID, map[string]time.Time{a.ID: w.now.Add(-time.Hour)}))
	w.must(w.Touch(ctx, w.net.ID, nil))
	d, err := w.Device(ctx, w.net.ID, a.ID)
	w.must(err)
	equal(t, "last seen", d.LastSeen, w.now)
	equal(t, "revision", w.revision(), a.Revision)
}
