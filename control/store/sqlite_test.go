package store_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nexd/control/store"
	"nexd/control/store/storetest"
	"nexd/key"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, file string) *store.SQLite {
	t.Helper()
	s, err := store.OpenSQLite(t.Context(), file, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t *testing.T) store.Store { return open(t, filepath.Join(t.TempDir(), "a b?#%.db")) })
}

func TestDatabaseIsPrivate(t *testing.T) {
	dir := t.TempDir()
	open(t, filepath.Join(dir, "c.db"))
	files, err := os.ReadDir(dir)
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if st, err := f.Info(); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", f.Name(), st.Mode(), err)
		}
	}
}

func TestForeignFileIsKept(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.db")
	text := strings.Repeat("this is no database\n", 100)
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := store.OpenSQLite(t.Context(), file, nil); err == nil {
		s.Close()
		t.Fatal("opened")
	} else if !strings.Contains(err.Error(), file) {
		t.Errorf("the error does not name the file: %v", err)
	} else if !strings.Contains(store.Hint(err), "backup") {
		t.Errorf("nothing is said to do about %v", err)
	}
	if got, _ := os.ReadFile(file); string(got) != text {
		t.Error("the file was changed")
	}
}

// Every kind of damage costs the damaged device alone.
func TestDamagedRecord(t *testing.T) {
	for column, value := range map[string]any{
		"name": "Not A Label", "public_key": "short", "v4": "text", "v6": "100.64.0.1", "tags": "{", "credential_hash": "zz",
		"created": -5, "last_seen": "yesterday", "ephemeral": "maybe", "revision": []byte{0}, "relays": "[1]",
	} {
		t.Run(column, func(t *testing.T) {
			ctx, file := context.Background(), filepath.Join(t.TempDir(), "c.db")
			s := open(t, file)
			n, err := s.EnsureNetwork(ctx, "default", "nexd.internal", netip.MustParsePrefix("100.64.0.0/24"), netip.MustParsePrefix("fd00::/64"))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.CreateRegKey(ctx, n.ID, store.RegKey{ID: "key_1", Created: time.Now()}, store.HashOf("k")); err != nil {
				t.Fatal(err)
			}
			join := func(name string) store.Device {
				res, err := s.Join(ctx, n.ID, store.Join{
					Secret: store.HashOf("k"), PublicKey: key.NewPrivate().Public(), Name: name,
					DeviceID: store.NewID("dev"), Credential: store.HashOf(name), Now: time.Now(),
				})
				if err != nil {
					t.Fatal(err)
				}
				return res.Device
			}
			bad, good := join("bad"), join("good")
			storetest.SpoilDevice(t, file, bad.ID, column, value)
			ds, err := s.Devices(ctx, n.ID)
			if err != nil || len(ds) != 1 || ds[0].ID != good.ID {
				t.Errorf("devices: %v, %v", ds, err)
			}
			if _, err := s.Device(ctx, n.ID, bad.ID); !errors.Is(err, store.ErrDamaged) {
				t.Errorf("damaged device: %v", err)
			}
			c, err := s.Changes(ctx, n.ID, 99)
			if err != nil || len(c.Upsert) != 1 || c.Upsert[0].ID != good.ID {
				t.Errorf("changes: %v, %v", c, err)
			}
			join("another")
			if _, ok, err := s.DeleteDevice(ctx, n.ID, bad.ID, store.Deletion{Rest: time.Now()}, nil); err != nil || !ok {
				t.Errorf("delete the damaged device: %v, %v", ok, err)
			}
		})
	}
}
