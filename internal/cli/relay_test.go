package cli

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"
)

// relayFrom loads the settings of nexd relay.
func relayFrom(t *testing.T, args []string, env map[string]string) (*relaySettings, error) {
	t.Helper()
	lookup := func(name string) string { return env[name] }
	p := newRelaySettings(lookup)
	fs := pflag.NewFlagSet("relay", pflag.ContinueOnError)
	p.register(fs)
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	return p, p.load(places{uid: 1000, env: lookup})
}

func TestRelaySettings(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	if err := os.WriteFile(key, []byte("secret\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := relayFrom(t, strings.Fields("--device-rate 12M --drain-timeout 0s"), map[string]string{
		"HOME": dir, "NEXD_REG_KEY_FILE": key, "NEXD_PUBLIC_ADDRESS": "192.0.2.7 r.example.com", "NEXD_MAX_SESSIONS": "5",
	})
	if err != nil {
		t.Fatal(err)
	}
	c := p.relay
	if c.RegKey != "secret" || strings.Join(c.PublicAddresses, ",") != "192.0.2.7,r.example.com" || c.MaxSessions != 5 || c.DeviceRate != 12e6 ||
		c.StateDir != dir+"/.local/state/nexd" || c.RelayListen != ":3478" || c.Listen != ":8443" || c.DrainTimeout >= 0 {
		t.Errorf("%+v", c)
	}
	if _, err := relayFrom(t, nil, map[string]string{"HOME": dir}); explain(err) == nil || !strings.Contains(err.Error(), "--public-address") {
		t.Errorf("no address to guess: %v", err)
	}
	gone := []string{"--reg-key-file", filepath.Join(dir, "gone"), "--public-address", "h", "--state-dir", dir}
	if _, err := relayFrom(t, gone, nil); explain(err) == nil || !strings.Contains(err.Error(), "--reg-key-file") {
		t.Errorf("a key file that is gone: %v", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "relay.json"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if p, err := relayFrom(t, gone, nil); err != nil || p.keyGone == nil {
		t.Errorf("a key file that is not needed any more: %v", err)
	}
}

func TestParseSize(t *testing.T) {
	for text, want := range map[string]int64{"1": 1, "500000": 5e5, "64K": 64e3, "12M": 12e6, "1G": 1e9, "4KiB": 4096, "2MiB": 2 << 20, "1GiB": 1 << 30} {
		if n, err := parseSize(text); err != nil || n != want {
			t.Errorf("%s: %d, %v", text, n, err)
		}
	}
	for _, text := range []string{"", "0", "-1", "M", "1.5M", "1T", "1 M", "9223372036854775807K", "1m"} {
		if n, err := parseSize(text); err == nil {
			t.Errorf("%q: %d", text, n)
		}
	}
}

// SIGHUP of a daemon that takes nothing but its log's level.
func TestRelevel(t *testing.T) {
	path := filepath.Join(t.TempDir(), "nexd.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("stun-listen: [\":3478\", \":3479\"]\n")
	a := &app{env: func(string) string { return "" }}
	p := newDiscoverySettings(a.env)
	fs := pflag.NewFlagSet("discovery", pflag.ContinueOnError)
	p.register(fs)
	if err := fs.Parse([]string{"--config", path}); err != nil {
		t.Fatal(err)
	}
	if err := p.load(a.places()); err != nil || len(p.stun.Listen) != 2 {
		t.Fatalf("%v, %v", p.stun.Listen, err)
	}
	var lines bytes.Buffer
	log, level := p.log.open(&lines)
	r := &relevel[*discoverySettings]{app: a, current: p, fresh: newDiscoverySettings, log: log, level: level}
	for _, wrong := range []string{"stun-listen: 3478\n", "log-level: loud\n", "mtu: 1280\n"} {
		write(wrong)
		if err := r.reload(); err == nil || level.Level() != slog.LevelInfo {
			t.Errorf("%q: %v, level %v", wrong, err, level.Level())
		}
	}
	write("stun-listen: :3478\nlog-level: debug\n")
	if err := r.reload(); err != nil || level.Level() != slog.LevelDebug {
		t.Errorf("%v, level %v", err, level.Level())
	}
	if !strings.Contains(lines.String(), "needs a restart") || !strings.Contains(lines.String(), "setting=stun-listen") {
		t.Errorf("the log does not name stun-listen:\n%s", &lines)
	}
	if relay, err := relayFrom(t, []string{"--public-address", "h", "--state-dir", "d"}, nil); err != nil || relay.relay.DrainTimeout != 10*time.Second {
		t.Errorf("%v", err)
	}
}
