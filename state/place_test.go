package state

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPlaces(t *testing.T) {
	long := "/" + strings.Repeat("x", 100)
	for _, tt := range []struct {
		name        string
		uid         int
		env         map[string]string
		dir, socket string // or a part of the error after a !
	}{
		{"root", 0, map[string]string{"HOME": "/root", "XDG_STATE_HOME": "/x", "XDG_RUNTIME_DIR": "/y"}, "/var/lib/nexd", "/run/nexd/nexd.sock"},
		{"a user", 1000, map[string]string{"HOME": "/home/u"}, "/home/u/.local/state/nexd", "/home/u/.local/state/nexd/nexd.sock"},
		{"xdg", 1000, map[string]string{"HOME": "/home/u", "XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/run/user/1000"}, "/s/nexd", "/run/user/1000/nexd.sock"},
		{"relative paths do not count", 1000, map[string]string{"HOME": "/h", "XDG_STATE_HOME": "s", "XDG_RUNTIME_DIR": "r"}, "/h/.local/state/nexd", "/h/.local/state/nexd/nexd.sock"},
		{"nothing", 12345, nil, "!choose one with --state-dir, or keep nothing with --ephemeral", "!choose one with --unix-socket"},
		{"long home", 1000, map[string]string{"HOME": long}, long + "/.local/state/nexd", "!at most 107 are possible: choose a shorter one with --unix-socket"},
		{"long runtime directory", 1000, map[string]string{"HOME": "/h", "XDG_RUNTIME_DIR": long}, "/h/.local/state/nexd", "!at most 107"},
	} {
		getenv := func(name string) string { return tt.env[name] }
		dir, err := defaultDir(tt.uid, getenv)
		check(t, tt.name+" dir", dir, err, tt.dir)
		socket, err := defaultSocket(tt.uid, getenv, dir)
		check(t, tt.name+" socket", socket, err, tt.socket)
	}
	if err := CheckSocket("/" + strings.Repeat("x", 106)); err != nil {
		t.Errorf("107 bytes: %v", err)
	}
}

func check(t *testing.T, what, got string, err error, want string) {
	t.Helper()
	if problem, fails := strings.CutPrefix(want, "!"); fails {
		if err == nil || !strings.Contains(err.Error(), problem) {
			t.Errorf("%s: got %q, %v", what, got, err)
		}
		return
	}
	if err != nil || got != want {
		t.Errorf("%s: got %q, %v, want %q", what, got, err, want)
	}
}

func TestExists(t *testing.T) {
	dir := t.TempDir()
	if Exists(dir) || Exists("") {
		t.Error("there is none")
	}
	if err := os.WriteFile(filepath.Join(dir, FileName), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if !Exists(dir) {
		t.Error("there is one")
	}
}
