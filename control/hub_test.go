package control

import (
	"context"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/key"
)

// A client that goes the moment its change is in the store must not keep that
// from everybody else: the publisher is told all the same.
func TestChangeOfAClientThatWentIsPublished(t *testing.T) {
	w := start(t, t.TempDir())
	w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "a"))
	b := w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "b"))
	h := w.svc.hub
	// Another hub on the same store, whose publisher does not run yet.
	later := newHub(h.network, h.epoch, h.history, h.store, &w.svc.cfg, h.metrics, nil, w.svc.relays)
	if err := later.load(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.store.DeleteDevice(t.Context(), h.network.ID, b.Device.ID, w.svc.deletion(time.Now()), nil); err != nil {
		t.Fatal(err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	later.sync(gone)

	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); later.run(ctx) }()
	defer func() { stop(); <-done }()
	eventually(t, "the deletion is published", func() bool { n, _ := later.counts(); return n == 1 })
}

// One batch of changes can hold a device under a key that another has left: the
// key finds the one that has it now, whichever comes first.
func TestKeyThatChangedHandsFindsItsDevice(t *testing.T) {
	db, err := store.OpenSQLite(t.Context(), filepath.Join(t.TempDir(), "control.db"), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	cfg := testConfig("")
	cfg.setDefaults()
	h := newHub(store.Network{ID: "net_1"}, "epoch", nil, db, &cfg, newMetrics(), nil, nil)
	first, second := key.NewPrivate().Public(), key.NewPrivate().Public()
	device := func(id string, k key.Public, revision uint64) store.Device {
		return store.Device{
			ID: id, Name: id[4:], PublicKey: k, Revision: revision,
			V4: netip.MustParseAddr("100.64.0.1"), V6: netip.MustParseAddr("fd00::1"),
		}
	}
	h.apply(store.Changes{Revision: 1, Upsert: []store.Device{device("dev_a", first, 1)}})
	// dev_a was reclaimed by another key, dev_b joined with the first one, and
	// dev_a changed once more.
	h.apply(store.Changes{Revision: 4, Upsert: []store.Device{device("dev_b", first, 3), device("dev_a", second, 4)}})
	for k, want := range map[key.Public]string{first: "dev_b", second: "dev_a"} {
		if got := h.byKey[k]; got != want {
			t.Errorf("the key of %s leads to %q", want, got)
		}
	}
}
