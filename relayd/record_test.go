package relayd

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/key"
	"nexd/relay"
)

func someRecord() record {
	n := relay.NetworkOf("net")
	return record{
		private: key.NewPrivate(), serviceURL: "https://h:1", pin: "p", id: "rly_1", name: "r", credential: "secret",
		issuers: []ed25519.PublicKey{bytes.Repeat([]byte{7}, 32)}, next: 9,
		denied: []controlapi.RelayDenied{{Network: n[:], Device: key.NewPrivate().Public(), Until: time.Unix(2e9, 0).UTC()}},
	}
}

func TestRecordRoundTrip(t *testing.T) {
	for _, rec := range []record{someRecord(), {private: key.NewPrivate()}} {
		b, err := rec.encode()
		if err != nil {
			t.Fatal(err)
		}
		got, err := decodeRecord(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := got.encode()
		if err != nil || !bytes.Equal(b, again) {
			t.Errorf("%v:\n%s%s", err, b, again)
		}
	}
}

// Damage does not pass for content, and the file stays as it is.
func TestDamagedRecord(t *testing.T) {
	good, err := someRecord().encode()
	if err != nil {
		t.Fatal(err)
	}
	newer := bytes.Replace(good, []byte(`"version":1`), []byte(`"version":2`), 1)
	for name, content := range map[string][]byte{
		"empty": {}, "cut": good[:len(good)/2], "a node's": []byte(`{"format":"nexd state","version":1}`),
		"flipped": bytes.Replace(good, []byte("BwcH"), []byte("BwcI"), 1), "newer": newer,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), recordName)
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			var usage *UsageError
			_, err := openBook(filepath.Dir(path))
			if !errors.As(err, &usage) || !strings.Contains(usage.Message, path) || usage.Hint == "" || strings.Contains(usage.Message, "secret") {
				t.Errorf("%v", err)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(after, content) {
				t.Error("the file was changed")
			}
		})
	}
}

// What cannot be written counts all the same, and is written with the next change.
func TestAFullDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	b := &book{path: filepath.Join(dir, recordName)}
	if err := b.update(func(r *record) { r.private, r.id = key.NewPrivate(), "kept" }); err == nil {
		t.Fatal("written to a directory that is not there")
	}
	if b.read().id != "kept" {
		t.Error("the change is lost")
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := b.update(func(*record) {}); err != nil {
		t.Fatal(err)
	}
	other, err := openBook(dir)
	if err != nil || other.read().id != "kept" {
		t.Errorf("%v", err)
	}
	info, err := os.Stat(b.path)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.update(func(*record) {}); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(b.path); err != nil || !os.SameFile(info, after) {
		t.Error("no change, and written again")
	}
}

func TestMergeDenied(t *testing.T) {
	now := time.Now()
	n, a, b := relay.NetworkOf("net"), key.NewPrivate().Public(), key.NewPrivate().Public()
	denied := func(d key.Public, after time.Duration) controlapi.RelayDenied {
		return controlapi.RelayDenied{Network: n[:], Device: d, Until: now.Add(after)}
	}
	list, err := mergeDenied([]controlapi.RelayDenied{denied(a, time.Hour), denied(b, -time.Minute)}, []controlapi.RelayDenied{denied(a, 2*time.Hour), denied(a, time.Minute)}, now)
	if err != nil || len(list) != 2 || list[0].Device != a || !list[0].Until.Equal(now.Add(2*time.Hour)) || list[1].Device != b {
		t.Errorf("%v, %v", list, err)
	}
	if list, err = mergeDenied(list, nil, now.Add(relay.ClockTolerance)); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	for _, d := range []controlapi.RelayDenied{{Network: n[:3], Device: a}, {Network: n[:]}} {
		if _, err := mergeDenied(list, []controlapi.RelayDenied{d}, now); err == nil {
			t.Errorf("took %+v", d)
		}
	}
	var many []controlapi.RelayDenied
	for i := range maxDenied + 10 {
		var raw [32]byte
		raw[0], raw[1], raw[2] = 9, byte(i), byte(i>>8)
		d, err := key.PublicFromBytes(raw[:])
		if err != nil {
			t.Fatal(err)
		}
		many = append(many, denied(d, time.Hour+time.Duration(i)*time.Second))
	}
	if list, err = mergeDenied(many, nil, now); err != nil || len(list) != maxDenied || !list[0].Until.After(list[maxDenied-1].Until) {
		t.Errorf("%d, %v", len(list), err)
	}
}

// FuzzRecord reads anything as a record: an error, or what encodes to the same again.
func FuzzRecord(f *testing.F) {
	good, err := someRecord().encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte("{}"))
	f.Add([]byte(`{"format":"nexd relay","version":1,"sha256":"","data":{}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		rec, err := decodeRecord(b)
		if err != nil {
			return
		}
		text, err := rec.encode()
		if err != nil {
			t.Fatal(err)
		}
		again, err := decodeRecord(text)
		if err != nil || again.private != rec.private || len(again.denied) != len(rec.denied) {
			t.Errorf("%v", err)
		}
	})
}
