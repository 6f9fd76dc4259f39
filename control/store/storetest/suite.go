// Package storetest is the contract of store.Store as tests: every
// implementation passes [Run]. [SpoilDevice] damages a record on purpose.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"reflect"
	"sync"
	"testing"
	"time"

	"nexd/control/store"
	"nexd/key"
)

// Run runs the suite. open returns an empty store that closes itself at the
// end of the test.
func Run(t *testing.T, open func(t *testing.T) store.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, *world)
	}{
		{"settings keep the first value", testSettings},
		{"a network is made once", testEnsureNetwork},
		{"a range that leaves devices out is refused", testChangeRange},
		{"registration keys come and go", testRegKeys},
		{"a device joins", testJoin},
		{"the same key is the same device", testJoinAgain},
		{"a key that may not be used is refused", testKeyRefusals},
		{"a taken name is refused or numbered", testNames},
		{"a wanted address is given or refused", testAddresses},
		{"a freed address rests", testQuarantine},
		{"a full range says so", testExhausted},
		{"a place is reclaimed", testReclaim},
		{"a single-use key admits one of many", testSingleUseRace},
		{"one name has one owner", testNameRace},
		{"changes tell what happened", testChanges},
		{"forgotten deletions make it whole", testPrune},
		{"a device is updated", testUpdate},
		{"a kept device stays", testDeleteKeep},
		{"networks do not see each other", testScope},
		{"last seen goes forward only", testTouch},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := &world{t: t, Store: open(t), now: time.UnixMilli(1_700_000_000_000).UTC()}
			w.net = w.network("default", "100.64.0.0/24")
			c.test(t, w)
		})
	}
}

// world is a store with one network and a clock that stands still.
type world struct {
	store.Store
	t   *testing.T
	net store.Network
	now time.Time
}

var ctx = context.Background()

func (w *world) network(name, v4 string) store.Network {
	w.t.Helper()
	n, err := w.EnsureNetwork(ctx, name, "nexd.internal", netip.MustParsePrefix(v4), netip.MustParsePrefix("fd00:1:2::/64"))
	w.must(err)
	return n
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// regKey makes a key; its secret is its name.
func (w *world) regKey(secret string, change ...func(*store.RegKey)) store.Hash {
	w.t.Helper()
	k := store.RegKey{ID: store.NewID("key"), Created: w.now}
	for _, f := range change {
		f(&k)
	}
	w.must(w.CreateRegKey(ctx, w.net.ID, k, store.HashOf(secret)))
	return store.HashOf(secret)
}

// wish is a join of a fresh key under name.
func (w *world) wish(secret store.Hash, name string) store.Join {
	return store.Join{
		Secret: secret, PublicKey: key.NewPrivate().Public(), Name: name, DeviceID: store.NewID("dev"),
		Credential: store.HashOf(store.NewID("credential")), Now: w.now,
	}
}

func (w *world) join(j store.Join) store.Device {
	w.t.Helper()
	res, err := w.Join(ctx, w.net.ID, j)
	w.must(err)
	return res.Device
}

func (w *world) refused(j store.Join, want error) {
	w.t.Helper()
	before := w.revision()
	_, err := w.Join(ctx, w.net.ID, j)
	if !errors.Is(err, want) {
		w.t.Errorf("join: %v, want %v", err, want)
	}
	if after := w.revision(); after != before {
		w.t.Errorf("a refused join changed the revision from %d to %d", before, after)
	}
}

func (w *world) revision() uint64 {
	w.t.Helper()
	n, err := w.Network(ctx, w.net.ID)
	w.must(err)
	return n.Revision
}

func (w *world) delete(id string, until time.Time) {
	w.t.Helper()
	_, ok, err := w.DeleteDevice(ctx, w.net.ID, id, until, nil)
	w.must(err)
	if !ok {
		w.t.Fatalf("device %s was kept", id)
	}
}

func equal[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func reusable(*store.RegKey)     {}
func singleUse(k *store.RegKey)  { k.SingleUse = true }
func reclaiming(k *store.RegKey) { k.Reclaim = true }
func ephemeral(k *store.RegKey)  { k.Ephemeral = true }
func tagged(k *store.RegKey)     { k.Tags = []string{"web", "prod", "web"} }
func addr(s string) netip.Addr   { return netip.MustParseAddr(s) }
func never(string) bool          { return false }
func always(string) bool         { return true }
func ids(ds []store.Device) (out []string) {
	for _, d := range ds {
		out = append(out, d.ID)
	}
	return out
}

func testSettings(t *testing.T, w *world) {
	n := 0
	create := func() (string, error) { n++; return fmt.Sprint("value ", n), nil }
	for range 2 {
		got, err := w.Setting(ctx, "x", create)
		w.must(err)
		equal(t, "setting", got, "value 1")
	}
	w.must(w.PutSetting(ctx, "x", "other"))
	got, err := w.Setting(ctx, "x", create)
	w.must(err)
	equal(t, "setting after put", got, "other")
	boom := errors.New("boom")
	if _, err := w.Setting(ctx, "y", func() (string, error) { return "", boom }); !errors.Is(err, boom) {
		t.Errorf("error of create: %v", err)
	}
	w.must(w.CheckWritable(ctx))
	w.must(w.CheckWritable(ctx))
}

func testEnsureNetwork(t *testing.T, w *world) {
	again := w.network("default", "100.64.0.0/24")
	equal(t, "network", again, w.net)
	if _, err := w.Network(ctx, "net_none"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("unknown network: %v", err)
	}
}

func testChangeRange(t *testing.T, w *world) {
	k := w.regKey("k")
	a, b := w.join(w.wish(k, "a")), w.join(w.wish(k, "b"))
	equal(t, "first address", a.V4, addr("100.64.0.1"))
	wide := w.network("default", "100.64.0.0/16")
	equal(t, "wider range", wide.V4, netip.MustParsePrefix("100.64.0.0/16"))
	c, err := w.Changes(ctx, w.net.ID, b.Revision)
	w.must(err)
	equal(t, "streams start anew", c.Whole, true)
	_, err = w.EnsureNetwork(ctx, "default", "nexd.internal", netip.MustParsePrefix("10.0.0.0/24"), w.net.V6)
	var out *store.RangeError
	if !errors.As(err, &out) || out.Outside != 2 || out.Name != "a" || out.Addr != a.V4 {
		t.Errorf("range without the devices: %v", err)
	}
}

func testRegKeys(t *testing.T, w *world) {
	h := w.regKey("one", tagged, func(k *store.RegKey) { k.Expires = w.now.Add(time.Hour); k.Description = "the first" })
	n, err := w.NetworkOfRegKey(ctx, h)
	w.must(err)
	equal(t, "network of the key", n, w.net.ID)
	keys, err := w.RegKeys(ctx, w.net.ID)
	w.must(err)
	if len(keys) != 1 {
		t.Fatalf("%d keys", len(keys))
	}
	k := keys[0]
	equal(t, "tags", k.Tags, []string{"prod", "web"})
	equal(t, "expiry", k.Expires, w.now.Add(time.Hour))
	equal(t, "description", k.Description, "the first")
	w.join(w.wish(h, "a"))
	keys, err = w.RegKeys(ctx, w.net.ID)
	w.must(err)
	equal(t, "uses", keys[0].Uses, 1)
	equal(t, "last used", keys[0].LastUsed, w.now)
	w.must(w.DeleteRegKey(ctx, w.net.ID, k.ID))
	if err := w.DeleteRegKey(ctx, w.net.ID, k.ID); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("second deletion: %v", err)
	}
	if _, err := w.NetworkOfRegKey(ctx, h); !errors.Is(err, store.ErrKeyUnknown) {
		t.Errorf("deleted key: %v", err)
	}
	_, err = w.Device(ctx, w.net.ID, "a")
	w.must(err) // the device outlives its key
}

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
	_, ok, err := w.DeleteDevice(ctx, w.net.ID, "a", w.now, func(d store.Device) bool { return d.ID == a.ID })
	w.must(err)
	equal(t, "deleted", ok, false)
	equal(t, "revision", w.revision(), a.Revision)
	w.delete("a", w.now)
	if _, _, err := w.DeleteDevice(ctx, w.net.ID, "a", w.now, nil); !errors.Is(err, store.ErrNotFound) {
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
	if _, _, err := w.DeleteDevice(ctx, w.net.ID, a.ID, w.now, nil); !errors.Is(err, store.ErrNotFound) {
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
