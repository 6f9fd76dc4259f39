// Package storetest is the contract of store.Store as tests: every
// implementation passes [Run]. [SpoilDevice] damages a record on purpose.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
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
		{"homes change the revision once", testHomes},
		{"a relay joins, reports and goes", testRelays},
		{"a key is for one role", testRoles},
		{"a single-use key admits one relay", testRelayKey},
		{"who loses its place is denied", testDenials},
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
	_, ok, err := w.DeleteDevice(ctx, w.net.ID, id, store.Deletion{Rest: until, Deny: until.Add(72 * time.Hour)}, nil)
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
