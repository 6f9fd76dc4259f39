package node

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestConfigValidate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*Config)
		want   string // in the error; empty: none
	}{
		{"state directory", func(*Config) {}, ""},
		{"ephemeral", func(c *Config) { c.StateDir, c.Ephemeral = "", true }, ""},
		{"nowhere", func(c *Config) { c.StateDir = "" }, "--state-dir"},
		{"service URL", func(c *Config) { c.ServiceURL = "https://service.example:8443/mesh" }, ""},
		{"service URL without TLS", func(c *Config) { c.ServiceURL = "http://service.example" }, "--service-url"},
		{"registration key", func(c *Config) { c.RegKey = "https://service.example" }, "--reg-key"},
		{"host name", func(c *Config) { c.Hostname = "db-1" }, ""},
		{"host name with a dot", func(c *Config) { c.Hostname = "db.1" }, "--hostname"},
		{"name taken", func(c *Config) { c.OnNameTaken = "number" }, ""},
		{"name taken otherwise", func(c *Config) { c.OnNameTaken = "fight" }, "--on-name-taken"},
		{"address", func(c *Config) { c.RequestIP = netip.MustParseAddr("100.64.0.9") }, ""},
		{"address v6", func(c *Config) { c.RequestIP = netip.MustParseAddr("fd00::1") }, "--request-ip"},
		{"endpoint", func(c *Config) { c.Endpoint = "home.example:51820" }, ""},
		{"endpoint v6", func(c *Config) { c.Endpoint = "[2001:db8::1]:51820" }, ""},
		{"endpoint without port", func(c *Config) { c.Endpoint = "home.example" }, "--endpoint"},
		{"endpoint port zero", func(c *Config) { c.Endpoint = "home.example:0" }, "--endpoint"},
		{"endpoint without host", func(c *Config) { c.Endpoint = ":51820" }, "--endpoint"},
		{"STUN servers", func(c *Config) { c.STUNServers = []string{"a:3478", "b"} }, "--stun-server \"b\""},
		{"MTU", func(c *Config) { c.MTU = 1420 }, ""},
		{"MTU below IPv6", func(c *Config) { c.MTU = 1279 }, "--mtu"},
		{"MTU above UDP", func(c *Config) { c.MTU = 65536 }, "--mtu"},
		{"operator's port", func(c *Config) { c.OpsListen = "127.0.0.1:9100" }, ""},
		{"operator's port alone", func(c *Config) { c.OpsListen = "9100" }, "--ops-listen"},
		{"no drain", func(c *Config) { c.DrainTimeout = -time.Second }, ""},
	} {
		c := Config{StateDir: "/nowhere"}
		tc.change(&c)
		err := c.Validate()
		switch {
		case tc.want == "" && err != nil:
			t.Errorf("%s: %v", tc.name, err)
		case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
			t.Errorf("%s: error %v, want one that names %s", tc.name, err, tc.want)
		}
	}
}

// A start that cannot succeed says what to give.
func TestNewSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		change func(*Config)
		hint   string
	}{
		{"nothing known", func(*Config) {}, "--reg-key"},
		{"no key", func(c *Config) { c.ServiceURL = "https://service.example" }, "--reg-key"},
		{"rules in conflict", func(c *Config) {
			c.RegKey, c.Rules = testRegKey, specs(egress(t, "tcp:80:db:80"), egress(t, "tcp:80:db:80"))
		}, ""},
		{"a key without a URL", func(c *Config) { c.RegKey = "secret" }, "--service-url"},
		{"wrong field", func(c *Config) { c.MTU = 1 }, ""},
		{"CA file", func(c *Config) { c.ServiceURL, c.RegKey, c.CAFile = "", testRegKey, "/does/not/exist" }, ""},
	} {
		cfg := Config{StateDir: t.TempDir()}
		tc.change(&cfg)
		n, err := New(cfg)
		if err == nil {
			n.Close()
		}
		usage := (*UsageError)(nil)
		if !errors.As(err, &usage) || !strings.Contains(usage.Hint, tc.hint) {
			t.Errorf("%s: New = %v, want a *UsageError with a hint of %q", tc.name, err, tc.hint)
		}
		// The lock is free again.
		if n, err := New(Config{StateDir: cfg.StateDir, RegKey: testRegKey}); err != nil {
			t.Errorf("%s: New after it = %v", tc.name, err)
		} else {
			n.Close()
		}
	}
}
