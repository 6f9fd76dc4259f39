package cli

import (
	"net"
	"path/filepath"
	"testing"
)

func TestPlaces(t *testing.T) {
	at := func(uid int, pairs ...string) places {
		env := map[string]string{}
		for i := 0; i < len(pairs); i += 2 {
			env[pairs[i]] = pairs[i+1]
		}
		return places{uid: uid, env: func(name string) string { return env[name] }}
	}
	for _, tt := range []struct {
		name          string
		p             places
		state, socket string
	}{
		{"root", at(0, "HOME", "/root", "XDG_RUNTIME_DIR", "/run/user/0"), "/var/lib/nexd", "/run/nexd/nexd.sock"},
		{"user", at(1000, "HOME", "/home/u"), "/home/u/.local/state/nexd", "/home/u/.local/state/nexd/nexd.sock"},
		{"user with a session", at(1000, "HOME", "/home/u", "XDG_RUNTIME_DIR", "/run/user/1000"), "/home/u/.local/state/nexd", "/run/user/1000/nexd.sock"},
		{"XDG_STATE_HOME", at(1000, "HOME", "/home/u", "XDG_STATE_HOME", "/s"), "/s/nexd", "/s/nexd/nexd.sock"},
		{"relative paths are no paths", at(1000, "HOME", "u", "XDG_STATE_HOME", "s", "XDG_RUNTIME_DIR", "r"), "", ""},
		{"nothing known", at(4242), "", ""},
		{"state named in the environment", at(1000, "NEXD_STATE_DIR", "/data"), "", "/data/nexd.sock"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.p.stateDir(); got != tt.state {
				t.Errorf("state directory %q, want %q", got, tt.state)
			}
			if got := tt.p.clientSocket(); got != tt.socket {
				t.Errorf("socket %q, want %q", got, tt.socket)
			}
		})
	}
}

func TestSocketGoesWhereItCanBeMade(t *testing.T) {
	state := filepath.Join(t.TempDir(), "state")
	p := places{uid: 1000, env: func(name string) string {
		return map[string]string{"XDG_RUNTIME_DIR": "/proc/no/such", "NEXD_STATE_DIR": state}[name]
	}}
	want := filepath.Join(state, "nexd.sock")
	if got := p.daemonSocket(state); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := p.daemonSocket(""); got != "" {
		t.Errorf("got %q where there is no place", got)
	}
}

func TestClientFindsTheSocketThatIsThere(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "nexd.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	p := places{uid: 1000, env: func(name string) string {
		return map[string]string{"XDG_RUNTIME_DIR": filepath.Join(dir, "empty"), "NEXD_STATE_DIR": dir}[name]
	}}
	if got := p.clientSocket(); got != path {
		t.Errorf("got %q, want %q", got, path)
	}
}
