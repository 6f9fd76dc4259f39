package storetest

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"nexd/control/store"
)

func testJoin(t *testing.T, w *world) {
	j := w.wish(w.regKey("k", tagged, ephemeral), "db")
	j.Version, j.OS = "1.0", "linux"
	res, err := w.Join(ctx, w.net.ID, j)
	w.must(err)
	equal(t, "kind", res.Kind, store.JoinedNew)
	want := store.Device{
		ID: j.DeviceID, Network: w.net.ID, Name: "db", PublicKey: j.PublicKey, V4: addr("100.64.0.1"), V6: addr("fd00:1:2::1"),
		Tags: []string{"prod", "web"}, Ephemeral: true, Version: "1.0", OS: "linux", RegKeyID: res.Device.RegKeyID,
		Created: w.now, Joined: w.now, Revision: 1, Credential: j.Credential,
	}
	equal(t, "device", res.Device, want)
	for _, name := range []string{"db", j.DeviceID} {
		d, err := w.Device(ctx, w.net.ID, name)
		w.must(err)
		equal(t, "device by "+name, d, want)
	}
	d, err := w.Authenticate(ctx, j.Credential)
	w.must(err)
	equal(t, "device by credential", d, want)
	if _, err := w.Authenticate(ctx, store.HashOf("other")); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown credential: %v", err)
	}
}

func testJoinAgain(t *testing.T, w *world) {
	k := w.regKey("k", singleUse)
	j := w.wish(k, "db")
	first := w.join(j)
	again := w.wish(k, "other")
	again.PublicKey = j.PublicKey
	res, err := w.Join(ctx, w.net.ID, again)
	w.must(err)
	equal(t, "kind", res.Kind, store.JoinedAgain)
	second := res.Device
	equal(t, "id, name, address, revision", []any{second.ID, second.Name, second.V4, second.Revision}, []any{first.ID, first.Name, first.V4, first.Revision})
	if _, err := w.Authenticate(ctx, j.Credential); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("old credential: %v", err)
	}
	_, err = w.Authenticate(ctx, again.Credential)
	w.must(err)
	again.RequestIP = first.V4
	w.join(again)
	again.RequestIP = addr("100.64.0.77")
	w.address(again, store.AddressOther)
}

func (w *world) address(j store.Join, want store.AddressProblem) {
	w.t.Helper()
	_, err := w.Join(ctx, w.net.ID, j)
	var got *store.AddressError
	if !errors.As(err, &got) || got.Problem != want {
		w.t.Errorf("join at %s: %v, want problem %d", j.RequestIP, err, want)
	}
}

func testKeyRefusals(t *testing.T, w *world) {
	w.refused(w.wish(store.HashOf("never made"), "a"), store.ErrKeyUnknown)
	old := w.regKey("old", func(k *store.RegKey) { k.Expires = w.now })
	w.refused(w.wish(old, "a"), store.ErrKeyExpired)
	once := w.regKey("once", singleUse)
	j := w.wish(once, "a")
	d := w.join(j)
	w.refused(w.wish(once, "b"), store.ErrKeyUsed)
	w.refused(w.wish(once, "a"), store.ErrKeyUsed)
	w.delete(d.ID, w.now)
	w.refused(j, store.ErrKeyUsed) // a deleted device does not come back with it
}

func testNames(t *testing.T, w *world) {
	k := w.regKey("k")
	w.join(w.wish(k, "db"))
	w.join(w.wish(k, "db-3"))
	var taken *store.NameTakenError
	if _, err := w.Join(ctx, w.net.ID, w.wish(k, "db")); !errors.As(err, &taken) || taken.Name != "db" {
		t.Errorf("taken name: %v", err)
	}
	numbered := func(name string) string {
		j := w.wish(k, name)
		j.NumberName = true
		return w.join(j).Name
	}
	equal(t, "next name", numbered("db"), "db-2")
	equal(t, "next name", numbered("db"), "db-4")
	long := "a23456789012345678901234567890123456789012345678901234567890123"
	w.join(w.wish(k, long))
	equal(t, "long name", numbered(long), long[:61]+"-2")
	equal(t, "long name", numbered(long), long[:61]+"-3")
}

func testAddresses(t *testing.T, w *world) {
	k := w.regKey("k")
	at := func(ip string) store.Join {
		j := w.wish(k, "d"+store.NewID("")[1:12])
		j.RequestIP = addr(ip)
		return j
	}
	d := w.join(at("100.64.0.9"))
	equal(t, "addresses", []netip.Addr{d.V4, d.V6}, []netip.Addr{addr("100.64.0.9"), addr("fd00:1:2::9")})
	w.address(at("100.64.0.9"), store.AddressTaken)
	w.address(at("100.64.1.1"), store.AddressOutside)
	w.address(at("fd00:1:2::5"), store.AddressOutside)
	w.address(at("100.64.0.0"), store.AddressReserved)
	w.address(at("100.64.0.255"), store.AddressReserved)
}

func testQuarantine(t *testing.T, w *world) {
	k := w.regKey("k")
	j := w.wish(k, "a")
	j.RequestIP = addr("100.64.0.5")
	d := w.join(j)
	w.delete(d.ID, w.now.Add(time.Minute))
	other := w.wish(k, "b")
	other.RequestIP = d.V4
	w.address(other, store.AddressResting)
	j.RequestIP = netip.Addr{}
	j.DeviceID = store.NewID("dev")
	again := w.join(j)
	equal(t, "the same key gets its address back", again.V4, d.V4)
	if again.ID == d.ID {
		t.Error("a deleted device came back under its id")
	}
	w.delete(again.ID, w.now.Add(time.Minute))
	w.now = w.now.Add(time.Minute)
	other.Now = w.now
	equal(t, "rested address", w.join(other).V4, d.V4)
}

func testExhausted(t *testing.T, w *world) {
	w.net = w.network("small", "10.9.0.0/29")
	k := w.regKey("small")
	var all []store.Device
	for i := range 6 {
		all = append(all, w.join(w.wish(k, fmt.Sprint("d", i))))
	}
	w.refused(w.wish(k, "more"), store.ErrExhausted)
	w.delete(all[2].ID, w.now.Add(time.Minute))
	w.refused(w.wish(k, "more"), store.ErrExhausted)
	w.now = w.now.Add(time.Minute)
	equal(t, "address after its rest", w.join(w.wish(k, "more")).V4, all[2].V4)
	w.delete(all[0].ID, w.now)
	equal(t, "the search wraps", w.join(w.wish(k, "last")).V4, all[0].V4)
}

func testReclaim(t *testing.T, w *world) {
	k := w.regKey("plain", tagged)
	re := w.regKey("re", reclaiming, singleUse)
	old := w.join(w.wish(k, "db"))
	j := w.wish(re, "db")
	j.Connected = always
	w.refused(j, store.ErrConnected)
	j.Connected = never
	res, err := w.Join(ctx, w.net.ID, j)
	w.must(err)
	equal(t, "kind", res.Kind, store.JoinedReclaimed)
	d := res.Device
	equal(t, "id, name, addresses", []any{d.ID, d.Name, d.V4, d.V6}, []any{old.ID, old.Name, old.V4, old.V6})
	equal(t, "key", d.PublicKey, j.PublicKey)
	equal(t, "tags are not inherited", len(d.Tags), 0)
	if _, err := w.Authenticate(ctx, old.Credential); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("old credential: %v", err)
	}
	c, err := w.Changes(ctx, w.net.ID, old.Revision)
	w.must(err)
	equal(t, "changed", ids(c.Upsert), []string{old.ID})
	next := w.wish(re, "db") // the same place again: still one device
	next.Connected = never
	equal(t, "id", w.join(next).ID, old.ID)
	w.join(w.wish(k, "web"))
	other := w.wish(re, "web")
	other.Connected = never
	w.refused(other, store.ErrKeyUsed)
}

func testSingleUseRace(t *testing.T, w *world) {
	k := w.regKey("once", singleUse)
	equal(t, "admitted", w.race(20, func(i int) store.Join { return w.wish(k, fmt.Sprint("d", i)) }, store.ErrKeyUsed), 1)
}

func testNameRace(t *testing.T, w *world) {
	k := w.regKey("k")
	equal(t, "admitted", w.race(20, func(int) store.Join { return w.wish(k, "db") }, nil), 1)
	ds, err := w.Devices(ctx, w.net.ID)
	w.must(err)
	equal(t, "devices", len(ds), 1)
}

// race joins n at once and counts the admitted; the others are refused with
// want, or for their name.
func (w *world) race(n int, wish func(int) store.Join, want error) int {
	var wg sync.WaitGroup
	errs := make([]error, n)
	for i := range n {
		j := wish(i)
		wg.Go(func() { _, errs[i] = w.Join(ctx, w.net.ID, j) })
	}
	wg.Wait()
	admitted := 0
	for _, err := range errs {
		var name *store.NameTakenError
		switch {
		case err == nil:
			admitted++
		case want != nil && errors.Is(err, want), errors.As(err, &name):
		default:
			w.t.Errorf("join in a race: %v", err)
		}
	}
	return admitted
}
