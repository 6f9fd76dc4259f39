package cli

import (
	"strings"
	"testing"
)

func TestHoist(t *testing.T) {
	a := &app{env: func(string) string { return "" }}
	for _, tt := range []struct{ name, args, want string }{
		{"nothing before", "proxy --ingress R", "proxy --ingress R"},
		{"values before", "--service-url U --reg-key K proxy --ingress R", "proxy --service-url U --reg-key K --ingress R"},
		{"equals sign", "--reg-key=K proxy", "proxy --reg-key=K"},
		{"a value that is a command", "--hostname proxy proxy", "proxy --hostname proxy"},
		{"a switch takes no value", "--ephemeral proxy", "proxy --ephemeral"},
		{"a switch with a value", "--ephemeral=false proxy", "proxy --ephemeral=false"},
		{"unknown flags too", "--bogus proxy", "proxy --bogus"},
		{"help", "--help proxy", "proxy --help"},
		{"no command", "--reg-key K", "--reg-key K"},
		{"value missing", "--reg-key", "--reg-key"},
		{"the rest stays", "proxy x --mtu 1", "proxy x --mtu 1"},
		{"end of flags", "--mtu 1 -- proxy", "--mtu 1 -- proxy"},
		{"empty", "", ""},
		{"completion of a command", "__complete --reg-key K pro", "__complete pro"},
		{"completion of a flag", "__complete --reg-key K proxy --ing", "__complete proxy --reg-key K --ing"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(hoist(a.nexd(), strings.Fields(tt.args)), " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
	for args, want := range map[string]string{
		"--unix-socket S nexd -o json status":     "nexd status --unix-socket S -o json",
		"nexd --unix-socket S proxy list":         "nexd proxy list --unix-socket S",
		"--admin-file F device show db -o yaml":   "device show --admin-file F db -o yaml",
		"-c 1 nexd peers ping db":                 "nexd peers ping -c 1 db",
		"--output json nexd nosuch status":        "nexd --output json nosuch status",
		"reg-key --single-use create --tag proxy": "reg-key create --single-use --tag proxy",
	} {
		if got := strings.Join(hoist(a.nexctl(), strings.Fields(args)), " "); got != want {
			t.Errorf("%q became %q, want %q", args, got, want)
		}
	}
}
