package relayd

import (
	"strings"
	"testing"

	"nexd/controlapi"
	"nexd/internal/selfcert"
)

func TestValidateNamesTheFlag(t *testing.T) {
	for _, tt := range []struct {
		want   string
		change func(*Config)
	}{
		{"", func(*Config) {}},
		{"", func(c *Config) {
			c.PublicAddresses, c.RelayListen, c.Listen = []string{"r.example.com", "2001:db8::1"}, ":3478", Off
		}},
		{"", func(c *Config) { c.RelayListen, c.Listen = ":3478", "192.0.2.1:443" }},
		{"--service-url: ", func(c *Config) { c.ServiceURL = "http://h" }},
		{"--reg-key: ", func(c *Config) { c.RegKey = "https://h#" }},
		{"--state-dir is not set", func(c *Config) { c.StateDir = "" }},
		{`--name "A_b": want lower-case`, func(c *Config) { c.Name = "A_b" }},
		{`--relay-listen "3478": want ADDRESS:PORT`, func(c *Config) { c.RelayListen = "3478" }},
		{`--relay-listen "off"`, func(c *Config) { c.RelayListen = Off }},
		{`--listen ":70000": port`, func(c *Config) { c.Listen = ":70000" }},
		{`--ops-listen "9"`, func(c *Config) { c.OpsListen = "9" }},
		{`--public-address "h:1": want`, func(c *Config) { c.PublicAddresses = []string{"h:1"} }},
		{`--public-address "0.0.0.0": want`, func(c *Config) { c.PublicAddresses = []string{"192.0.2.1", "0.0.0.0"} }},
		{`--public-address "": want`, func(c *Config) { c.PublicAddresses = []string{""} }},
		{"--public-address is given 9 times", func(c *Config) { c.PublicAddresses = make([]string, 9) }},
		{"--public-address is not set and cannot be guessed", func(c *Config) { c.RelayListen, c.Listen = "", "[::]:8443" }},
		{"--public-address is not set and cannot be guessed", func(c *Config) { c.RelayListen = "[fe80::1%eth0]:1" }},
		{"--tls-cert without --tls-key", func(c *Config) { c.TLSCert = "f" }},
		{"--tls-key without --tls-cert", func(c *Config) { c.TLSKey = "f" }},
		{"--tls-cert with --listen off", func(c *Config) { c.TLSCert, c.TLSKey, c.Listen = "f", "f", Off }},
		{"--max-sessions -1", func(c *Config) { c.MaxSessions = -1 }},
		{"--device-rate -1", func(c *Config) { c.DeviceRate = -1 }},
	} {
		cfg := Config{StateDir: "d", RelayListen: "192.0.2.1:3478"}
		tt.change(&cfg)
		switch err := cfg.Validate(); {
		case tt.want == "" && err != nil:
			t.Errorf("refused: %v", err)
		case tt.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tt.want)):
			t.Errorf("want %q, got %v", tt.want, err)
		}
	}
}

// What devices are told fits what the service takes, and the certificate.
func TestAddress(t *testing.T) {
	dir := t.TempDir()
	own, err := selfcert.Make(selfcert.Files{Cert: dir + "/c", Key: dir + "/k"}, selfcert.Own{Names: []string{"b.example.com"}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	given, err := selfcert.Load(selfcert.Files{Cert: dir + "/c", Key: dir + "/k"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	hosts := []string{"2001:db8::1", "b.example.com"}
	for _, tt := range []struct {
		cert *selfcert.Certificate
		url  string
		pin  controlapi.Pin
	}{
		{own, "https://[2001:db8::1]:8443/v1/relay", controlapi.PinOf(own.SPKI())},
		{given, "https://b.example.com:8443/v1/relay", ""},
	} {
		a := address(hosts, 3478, 8443, tt.cert.Leaf(), tt.cert.SPKI())
		if err := a.Check(); err != nil {
			t.Error(err)
		}
		if len(a.UDP) != 2 || a.UDP[0] != "[2001:db8::1]:3478" || a.UDP[1] != "b.example.com:3478" || a.URL != tt.url || a.Pin != tt.pin {
			t.Errorf("%+v", a)
		}
	}
	if a := address(hosts[:1], 3478, 0, nil, nil); a.URL != "" || a.Pin != "" || a.Check() != nil {
		t.Errorf("%+v", a)
	}
}

// A credential goes to no other service than the one that gave it.
func TestWhichService(t *testing.T) {
	pin, other := controlapi.PinOf([]byte("a")), controlapi.PinOf([]byte("b"))
	rec := record{serviceURL: "https://a", pin: pin, credential: "c"}
	for _, tt := range []struct {
		name    string
		flag    string
		key     controlapi.RegKey
		rec     record
		foreign bool
		url     string
		pin     controlapi.Pin
	}{
		{name: "registered before", rec: rec, url: "https://a", pin: pin},
		{name: "the key's", key: controlapi.RegKey{ServiceURL: "https://b", Pin: other}, url: "https://b", pin: other},
		{name: "a bare secret", key: controlapi.RegKey{Secret: "s"}, rec: rec, url: "https://a", pin: pin},
		{name: "moved, with the same key", key: controlapi.RegKey{ServiceURL: "https://b", Pin: pin}, rec: rec, url: "https://b", pin: pin},
		{name: "another service", key: controlapi.RegKey{ServiceURL: "https://b", Pin: other}, rec: rec, foreign: true},
		{name: "another service without a pin", key: controlapi.RegKey{ServiceURL: "https://b"}, rec: rec, foreign: true},
		{name: "a flag", flag: "https://f", key: controlapi.RegKey{ServiceURL: "https://b", Pin: other}, url: "https://f", pin: other},
		{name: "a flag after registering", flag: "https://f", rec: rec, url: "https://f", pin: pin},
	} {
		if got := foreignKey(tt.key, tt.rec); got != tt.foreign {
			t.Errorf("%s: foreign %t", tt.name, got)
		}
		if tt.foreign {
			continue
		}
		if url, p := chooseService(tt.flag, tt.key, tt.rec); url != tt.url || p != tt.pin {
			t.Errorf("%s: %s %s", tt.name, url, p)
		}
	}
}
