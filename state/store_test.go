package state

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/key"
)

// fixedKey returns the same key for the same first byte.
func fixedKey(first byte) key.Private {
	p, err := key.ParsePrivate(base64.StdEncoding.EncodeToString(append([]byte{first}, make([]byte, key.Size-1)...)))
	if err != nil {
		panic(err)
	}
	return p
}

// sample returns content with every field set.
func sample() Data {
	peer := fixedKey(1 << 4).Public()
	self := controlapi.Device{
		ID: "d1", Name: "web", PublicKey: fixedKey(2 << 4).Public(), Tags: []string{"prod"},
		Addresses: []netip.Addr{netip.MustParseAddr("100.64.0.1"), netip.MustParseAddr("fd00::1")},
	}
	return Data{
		Version: Version, PrivateKey: fixedKey(3 << 4), ListenPort: 41641,
		ServiceURL: "https://mesh.example:8443", Pin: "pin", Credential: "s3cr<et>", Ephemeral: true,
		Map: &controlapi.Map{
			Epoch: "e", Revision: 7, Self: self, STUN: []string{":3478"},
			Network: controlapi.Network{ID: "n", Name: "default", Domain: "nexd.internal", CIDRs: []netip.Prefix{netip.MustParsePrefix("100.64.0.0/10")}},
			Peers:   []controlapi.Device{{ID: "d2", Name: "db", PublicKey: peer, Addresses: []netip.Addr{netip.MustParseAddr("100.64.0.2")}}},
		},
		Rules: []Rule{{"ingress", "tcp:80:127.0.0.1:8080"}, {"egress", "tcp:80:unix:/run/über.sock"}},
		Hints: []Hint{{Peer: peer, Addrs: []netip.AddrPort{netip.MustParseAddrPort("192.0.2.1:5000")}, Seen: time.Unix(1700000000, 0).UTC()}},
	}
}

// same compares content by its encoding.
func same(t testing.TB, got, want Data) {
	t.Helper()
	g, err := encode(got)
	if err != nil {
		t.Fatal(err)
	}
	w, err := encode(want)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(g, w) {
		t.Fatalf("got\n%s\nwant\n%s", g, w)
	}
}

func mustOpen(t testing.TB, dir string) *Store {
	t.Helper()
	s, err := Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func mustUpdate(t testing.TB, s *Store, change func(*Data)) {
	t.Helper()
	if err := s.Update(change); err != nil {
		t.Fatal(err)
	}
}

func TestStateComesBack(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "state")
	s := mustOpen(t, dir)
	if d := s.Data(); !d.PrivateKey.IsZero() || d.Version != Version || d.Map != nil {
		t.Errorf("a new store holds %v", d)
	}
	want := sample()
	mustUpdate(t, s, func(d *Data) { *d = want })
	same(t, s.Data(), want)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("second close: %v", err)
	}
	if err := s.Update(func(*Data) {}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("update after close: %v", err)
	}

	s = mustOpen(t, dir)
	same(t, s.Data(), want)
	if s.Dir() != dir || !strings.Contains(s.String(), dir) {
		t.Errorf("Dir %s, String %s", s.Dir(), s)
	}
}

func TestFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	s := mustOpen(t, dir)
	// What a crash left behind does not lend its mode to the next file.
	if err := os.WriteFile(filepath.Join(dir, newName), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	mustUpdate(t, s, func(d *Data) { *d = sample() })
	for name, want := range map[string]fs.FileMode{"": 0o700 | fs.ModeDir, FileName: 0o600, LockName: 0o600} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != want {
			t.Errorf("%q: mode %v, want %v (%v)", name, info.Mode(), want, err)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, newName)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the new file is still there: %v", err)
	}
}

func TestModeOfAnExistingDirectory(t *testing.T) {
	for _, tt := range []struct {
		name     string
		mode     fs.FileMode
		occupied bool
		want     fs.FileMode
		warned   bool
	}{
		{"private", 0o700, false, 0o700, false},
		{"empty", 0o755, false, 0o700, false},
		{"in use by others", 0o755, true, 0o755, false},
		{"writable for others", 0o777, true, 0o777, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "state")
			if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, tt.mode)); err != nil {
				t.Fatal(err)
			}
			if tt.occupied {
				if err := os.WriteFile(filepath.Join(dir, "other"), nil, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			var log bytes.Buffer
			s, err := Open(dir, slog.New(slog.NewTextHandler(&log, nil)))
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			info, err := os.Stat(dir)
			if err != nil || info.Mode().Perm() != tt.want {
				t.Errorf("mode %v, want %v (%v)", info.Mode().Perm(), tt.want, err)
			}
			if got := strings.Contains(log.String(), "other users can replace files"); got != tt.warned {
				t.Errorf("log: %q", &log)
			}
		})
	}
}

func TestMemoryKeepsNothing(t *testing.T) {
	s := Memory()
	want := sample()
	mustUpdate(t, s, func(d *Data) { *d = want })
	same(t, s.Data(), want)
	if s.Dir() != "" || s.String() != "state in memory" {
		t.Errorf("Dir %q, %s", s.Dir(), s)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Update(func(*Data) {}); !errors.Is(err, os.ErrClosed) {
		t.Errorf("update after close: %v", err)
	}
}

func TestCopiesShareNothing(t *testing.T) {
	s := Memory()
	kept := sample()
	mustUpdate(t, s, func(d *Data) { *d = kept })
	want := s.Data()
	for _, d := range []Data{kept, s.Data()} {
		d.Map.Revision++
		d.Map.Self.Addresses[0] = netip.Addr{}
		d.Map.Self.Tags[0] = "x"
		d.Map.Network.CIDRs[0] = netip.Prefix{}
		d.Map.Peers[0].Name = "x"
		d.Map.Peers[0].Addresses[0] = netip.Addr{}
		d.Map.STUN[0] = "x"
		d.Rules[0].Rule = "x"
		d.Hints[0].Addrs[0] = netip.AddrPort{}
		d.Hints[0].Seen = time.Time{}
		same(t, s.Data(), want)
	}
}

func TestContentThatCannotBeReadAgainIsRefused(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	want := sample()
	mustUpdate(t, s, func(d *Data) { *d = want })
	for name, spoil := range map[string]func(*Data){
		"prefix": func(d *Data) { d.Map.Network.CIDRs[0] = netip.PrefixFrom(netip.MustParseAddr("10.0.0.1"), 99) },
		"time":   func(d *Data) { d.Hints[0].Seen = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"size":   func(d *Data) { d.Credential = strings.Repeat("x", MaxSize) },
	} {
		if err := s.Update(spoil); err == nil || len(err.Error()) > 200 {
			t.Errorf("%s: %v", name, err)
		}
		same(t, s.Data(), want)
	}
	mustUpdate(t, s, func(d *Data) { d.ListenPort = 5 })
}

func TestAnUnchangedStateIsNotWrittenAgain(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	mustUpdate(t, s, func(d *Data) { *d = sample() })
	before, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil {
		t.Fatal(err)
	}
	mustUpdate(t, s, func(d *Data) { d.ListenPort += 0 })
	after, err := os.Stat(filepath.Join(dir, FileName))
	if err != nil || !os.SameFile(before, after) {
		t.Errorf("the file was replaced (%v)", err)
	}
}

func TestConcurrentUpdatesAllCount(t *testing.T) {
	dir := t.TempDir()
	s := mustOpen(t, dir)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if err := s.Update(func(d *Data) { d.ListenPort++ }); err != nil {
					t.Error(err)
				}
				_ = s.Data()
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if got := mustOpen(t, dir).Data().ListenPort; got != 40 {
		t.Errorf("got %d updates, want 40", got)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	d := sample()
	var log bytes.Buffer
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "data", d)
	text, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{fmt.Sprint(d), fmt.Sprintf("%v %+v %#v %s %q", d, d, d, d, d), log.String(), string(text)} {
		if strings.Contains(s, "s3cr") || strings.Contains(s, d.PrivateKey.Reveal()) {
			t.Errorf("a secret in %s", s)
		}
	}
	if got := fmt.Sprint(Data{}); got != `(state of no device, service "")` {
		t.Errorf("got %s", got)
	}
}
