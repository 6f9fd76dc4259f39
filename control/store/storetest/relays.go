package storetest

import (
	"errors"
	"testing"
	"time"

	"nexd/control/store"
	"nexd/controlapi"
	"nexd/key"
)

func testHomes(t *testing.T, w *world) {
	re := w.regKey("re", reclaiming)
	a := w.join(w.wish(re, "a"))
	set := func(want bool, homes ...string) {
		t.Helper()
		before := w.revision()
		changed, err := w.SetHomes(ctx, w.net.ID, a.ID, homes)
		w.must(err)
		equal(t, "changed", changed, want)
		equal(t, "revision moved", w.revision() != before, want)
		d, err := w.Device(ctx, w.net.ID, a.ID)
		w.must(err)
		equal(t, "relays", d.Relays, homes)
	}
	set(false)
	set(true, "relay_1", "relay_2")
	set(false, "relay_1", "relay_2")
	set(true, "relay_2", "relay_1")
	c, err := w.Changes(ctx, w.net.ID, a.Revision)
	w.must(err)
	equal(t, "everybody is told", c.Upsert[0].Relays, []string{"relay_2", "relay_1"})
	again := w.wish(re, "a")
	again.PublicKey = a.PublicKey
	equal(t, "the same key keeps them", w.join(again).Relays, []string{"relay_2", "relay_1"})
	other := w.wish(re, "a")
	other.Connected = never
	equal(t, "another key begins without", len(w.join(other).Relays), 0)
	set(true, "relay_1")
	set(true)
	if _, err := w.SetHomes(ctx, w.net.ID, "dev_none", nil); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("no device: %v", err)
	}
}

func forRelays(k *store.RegKey) { k.Role = controlapi.RoleRelay }

// relayWish is a join of a fresh relay under name.
func (w *world) relayWish(secret store.Hash, name string) store.RelayJoin {
	return store.RelayJoin{
		Secret: secret, PublicKey: key.NewPrivate().Public(), Name: name, RelayID: store.NewID("relay"), Version: "1",
		Address:    controlapi.RelayAddress{UDP: []string{"r1.example.org:3478", "[2001:db8::1]:3478"}, URL: "https://r1.example.org/v1/relay"},
		Credential: store.HashOf(store.NewID("credential")), Now: w.now,
	}
}

func testRelays(t *testing.T, w *world) {
	k := w.regKey("k", forRelays)
	j := w.relayWish(k, "r1")
	r, err := w.JoinRelay(ctx, j)
	w.must(err)
	want := store.Relay{
		ID: j.RelayID, Name: "r1", PublicKey: j.PublicKey, Address: j.Address, Version: "1", RegKeyID: r.RegKeyID,
		Created: w.now, Credential: j.Credential,
	}
	equal(t, "relay", r, want)
	var taken *store.NameTakenError
	if _, err := w.JoinRelay(ctx, w.relayWish(k, "r1")); !errors.As(err, &taken) || taken.Name != "r1" {
		t.Errorf("taken name: %v", err)
	}
	st := store.RelayState{Address: controlapi.RelayAddress{UDP: []string{"192.0.2.1:3478"}}, Version: "2", Alive: true, LastSeen: w.now.Add(time.Second)}
	w.must(w.UpdateRelay(ctx, r.ID, st))
	want.Address, want.Version, want.Alive, want.LastSeen = st.Address, "2", true, st.LastSeen
	got, err := w.AuthenticateRelay(ctx, j.Credential)
	w.must(err)
	equal(t, "relay by credential", got, want)

	again := w.relayWish(k, "another")
	again.PublicKey = j.PublicKey
	same, err := w.JoinRelay(ctx, again)
	w.must(err)
	want.Address, want.Version, want.Credential = again.Address, "1", again.Credential
	equal(t, "the same key is the same relay", same, want)
	if _, err := w.AuthenticateRelay(ctx, j.Credential); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("old credential: %v", err)
	}
	_, err = w.JoinRelay(ctx, w.relayWish(k, "r0"))
	w.must(err)
	list, err := w.Relays(ctx)
	w.must(err)
	equal(t, "names", []string{list[0].Name, list[1].Name}, []string{"r0", "r1"})
	equal(t, "listed", list[1], want)
	id, err := w.DeleteRelay(ctx, "r1")
	w.must(err)
	equal(t, "deleted", id, r.ID)
	if _, err := w.DeleteRelay(ctx, r.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("second deletion: %v", err)
	}
	if err := w.UpdateRelay(ctx, r.ID, st); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("report of a deleted relay: %v", err)
	}
}

func testRoles(t *testing.T, w *world) {
	devices, relays := w.regKey("d"), w.regKey("r", forRelays)
	w.refused(w.wish(relays, "a"), store.ErrKeyRole)
	if _, err := w.JoinRelay(ctx, w.relayWish(devices, "a")); !errors.Is(err, store.ErrKeyRole) {
		t.Errorf("relay with a device's key: %v", err)
	}
	if _, err := w.JoinRelay(ctx, w.relayWish(store.HashOf("never made"), "a")); !errors.Is(err, store.ErrKeyUnknown) {
		t.Errorf("unknown key: %v", err)
	}
	old := w.regKey("old", forRelays, func(k *store.RegKey) { k.Expires = w.now })
	if _, err := w.JoinRelay(ctx, w.relayWish(old, "a")); !errors.Is(err, store.ErrKeyExpired) {
		t.Errorf("old key: %v", err)
	}
	keys, err := w.RegKeys(ctx, w.net.ID)
	w.must(err)
	for _, k := range keys {
		equal(t, "uses", k.Uses, 0)
	}
}

func testRelayKey(t *testing.T, w *world) {
	once := w.regKey("once", forRelays, singleUse)
	first := w.relayWish(once, "a")
	_, err := w.JoinRelay(ctx, first)
	w.must(err)
	first.Credential = store.HashOf("again")
	_, err = w.JoinRelay(ctx, first)
	w.must(err)
	if _, err := w.JoinRelay(ctx, w.relayWish(once, "b")); !errors.Is(err, store.ErrKeyUsed) {
		t.Errorf("used key: %v", err)
	}
	_, err = w.DeleteRelay(ctx, "a")
	w.must(err)
	if _, err := w.JoinRelay(ctx, first); !errors.Is(err, store.ErrKeyUsed) {
		t.Errorf("a deleted relay comes back with it: %v", err)
	}
}

func testDenials(t *testing.T, w *world) {
	list := func(since uint64, limit int) []store.Denial {
		t.Helper()
		ds, err := w.Denials(ctx, since, limit)
		w.must(err)
		return ds
	}
	k := w.regKey("k", reclaiming)
	until := w.now.Add(72 * time.Hour)
	wish := w.wish(k, "a")
	w.delete(w.join(wish).ID, w.now.Add(300*time.Millisecond))
	ds := list(0, 10)
	equal(t, "denied", ds, []store.Denial{{Network: w.net.ID, PublicKey: wish.PublicKey, Until: until, Position: ds[0].Position}})
	equal(t, "nothing behind it", len(list(ds[0].Position, 10)), 0)

	// The same key within the same second: what it was given between is denied too.
	wish.DeviceID = store.NewID("dev")
	w.delete(w.join(wish).ID, w.now)
	again := list(ds[0].Position, 10)
	equal(t, "denied again", []time.Time{again[0].Until}, []time.Time{until.Add(time.Second)})
	equal(t, "in place of the first", len(list(0, 10)), 1)

	b := w.join(w.wish(k, "b"))
	next := w.wish(k, "b")
	next.Connected, next.Deny = never, until
	w.join(next)
	reclaimed := list(again[0].Position, 10)
	equal(t, "the key that lost its place", reclaimed[0].PublicKey, b.PublicKey)
	equal(t, "at most so many", len(list(0, 1)), 1)

	w.must(w.PruneDenials(ctx, until.Add(time.Hour)))
	left := list(0, 10)
	equal(t, "the newest stays", []int{len(left), int(left[0].Position)}, []int{1, int(reclaimed[0].Position)})
	w.delete(w.join(w.wish(k, "c")).ID, w.now)
	equal(t, "positions go on", list(reclaimed[0].Position, 10)[0].Position > reclaimed[0].Position, true)
}
