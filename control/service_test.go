package control

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nexd/controlapi"
)

func TestValidate(t *testing.T) {
	good := testConfig("dir")
	if err := good.Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"--state-dir":    func(c *Config) { c.StateDir = "" },
		"--listen":       func(c *Config) { c.Listen = "8443" },
		"--listen ":      func(c *Config) { c.Listen = ":99999" },
		"--stun-listen":  func(c *Config) { c.STUNListen = "nowhere" },
		"--public-url":   func(c *Config) { c.PublicURL = "http://example.com" },
		"SQLite only":    func(c *Config) { c.DatabaseURL = "postgres://user:geheim@h/db" },
		"--database-url": func(c *Config) { c.DatabaseURL = "mysql:geheim" },
		"--network-cidr": func(c *Config) { c.NetworkCIDR = netip.MustParsePrefix("fd00::/64") },
		"write 10.0.0.0": func(c *Config) { c.NetworkCIDR = netip.MustParsePrefix("10.0.0.1/24") },
		"/8 to /29":      func(c *Config) { c.NetworkCIDR = netip.MustParsePrefix("10.0.0.0/30") },
		"reserved":       func(c *Config) { c.NetworkCIDR = netip.MustParsePrefix("127.0.0.0/8") },
		"--tls-key":      func(c *Config) { c.TLSCert = "x" },
		"--tls-cert":     func(c *Config) { c.TLSKey = "x" },
	} {
		c := good
		change(&c)
		err := c.Validate()
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := New(c); err == nil {
			t.Errorf("%s: New takes it", want)
		}
	}
}

func TestFilesArePrivate(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "new", "state")
	w := start(t, dir)
	if st, err := os.Stat(dir); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("state directory: %v, %v", st.Mode(), err)
	}
	files, err := os.ReadDir(dir)
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if st, err := f.Info(); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v", f.Name(), st.Mode())
		}
	}
	a := readAdmin(t, dir)
	if a.URL != w.svc.URL() || a.Pin != string(w.svc.pin()) || len(a.Token) < 40 {
		t.Errorf("admin file %+v", a)
	}
}

func TestOneServicePerDirectory(t *testing.T) {
	dir := t.TempDir()
	w := start(t, dir)
	if svc, err := New(testConfig(dir)); err == nil {
		svc.Close()
		t.Error("two services on one directory")
	} else if !strings.Contains(err.Error(), "another control service") {
		t.Error(err)
	}
	cfg := testConfig(t.TempDir())
	cfg.Listen = w.svc.Addr().String()
	if svc, err := New(cfg); err == nil {
		svc.Close()
		t.Error("two services on one port")
	} else if !strings.Contains(err.Error(), "--listen") {
		t.Error(err)
	}
	if err := w.svc.Run(context.Background()); err == nil {
		t.Error("it runs twice")
	}
}

// Key, pin and token stay; URL follows; a lost admin file is made anew.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	w := start(t, dir)
	before := readAdmin(t, dir)
	end := func() {
		t.Helper()
		if err := w.end(); err != nil {
			t.Fatal(err)
		}
	}
	end()
	w = start(t, dir, func(c *Config) { c.PublicURL = "https://mesh.example.com:8443" })
	after := readAdmin(t, dir)
	if after.Token != before.Token || after.Pin != before.Pin || after.URL != "https://mesh.example.com:8443" {
		t.Errorf("from %+v to %+v", before, after)
	}
	leaf := w.svc.cert.Leaf()
	if leaf.VerifyHostname("mesh.example.com") != nil || leaf.VerifyHostname("127.0.0.1") != nil {
		t.Errorf("certificate for %v %v", leaf.DNSNames, leaf.IPAddresses)
	}
	w.admin("GET", "/v1/devices", nil, nil) // the pin holds
	end()
	if err := os.Remove(filepath.Join(dir, adminFile)); err != nil {
		t.Fatal(err)
	}
	w = start(t, dir)
	made := readAdmin(t, dir)
	if made.Token == before.Token || made.Pin != before.Pin {
		t.Errorf("made %+v", made)
	}
	w.admin("GET", "/v1/devices", nil, nil)
	p, _ := w.send("GET", "/v1/devices", before.Token, nil, nil)
	w.refused(p, controlapi.CodeUnauthorized)
	end()
	for _, file := range []string{adminFile, keyFile, databaseFile} {
		path := filepath.Join(dir, file)
		whole, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("garbage"), 0o600); err != nil {
			t.Fatal(err)
		}
		if svc, err := New(testConfig(dir)); err == nil {
			svc.Close()
			t.Errorf("%s: garbage is taken", file)
		} else if !strings.Contains(err.Error(), path) {
			t.Errorf("%s: the error does not name it: %v", file, err)
		}
		if got, _ := os.ReadFile(path); string(got) != "garbage" {
			t.Errorf("%s was overwritten", file)
		}
		if err := os.WriteFile(path, whole, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	start(t, dir)
}

func TestChangeOfRange(t *testing.T) {
	dir := t.TempDir()
	w := start(t, dir)
	w.join(wish(w.regKey(controlapi.RegKeyRequest{}), "a"))
	if err := w.end(); err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(dir)
	cfg.NetworkCIDR = netip.MustParsePrefix("10.0.0.0/16")
	if svc, err := New(cfg); err == nil {
		svc.Close()
		t.Error("a range that leaves a device out is taken")
	} else if !strings.Contains(err.Error(), "--network-cidr") || !strings.Contains(err.Error(), "100.64.0.1") {
		t.Error(err)
	}
	start(t, dir, func(c *Config) { c.NetworkCIDR = netip.MustParsePrefix("100.64.0.0/24") })
}

// A start that has nothing to change leaves every file a user may hold on to.
func TestARestartLeavesFilesAlone(t *testing.T) {
	dir := t.TempDir()
	files := func() (all [3]string) {
		t.Helper()
		for i, name := range []string{certFile, keyFile, adminFile} {
			b, err := os.ReadFile(filepath.Join(dir, name))
			if err != nil {
				t.Fatal(err)
			}
			all[i] = string(b)
		}
		return all
	}
	restart := func() {
		t.Helper()
		named := func(c *Config) { c.PublicURL = "https://Mesh.example.com:8443" }
		if err := start(t, dir, named).end(); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	before := files()
	restart()
	if after := files(); after != before {
		t.Errorf("from %v to %v", before, after)
	}
}

func TestGivenCertificate(t *testing.T) {
	cfg := testConfig(t.TempDir())
	now := time.Now()
	cfg.TLSCert, cfg.TLSKey = writeCertificate(t, t.TempDir(), "one.example.com", now.Add(-time.Hour), now.Add(time.Hour))
	svc, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer svc.Close()
	if a := readAdmin(t, cfg.StateDir); a.Pin != "" || svc.pin() != "" {
		t.Error("a given certificate is pinned")
	}
	if err := svc.cert.Leaf().VerifyHostname("one.example.com"); err != nil {
		t.Error(err)
	}
	if !strings.HasPrefix(svc.URL(), "https://one.example.com:") {
		t.Errorf("it calls itself %s", svc.URL())
	}
	for _, name := range []string{certFile, keyFile} {
		if _, err := os.Stat(filepath.Join(cfg.StateDir, name)); err == nil {
			t.Errorf("%s was made, too", name)
		}
	}
}

func TestPublicURL(t *testing.T) {
	for listen, want := range map[string]string{
		"192.0.2.1:8443": "https://192.0.2.1:8443", "[2001:db8::1]:8443": "https://[2001:db8::1]:8443", "mesh.example.com:8443": "https://mesh.example.com:8443",
	} {
		if got := derivePublicURL(t.Context(), listen, 8443, nil); got != want {
			t.Errorf("%s: %s, want %s", listen, got, want)
		}
	}
	for _, listen := range []string{":8443", "0.0.0.0:8443", "[::]:8443"} {
		if _, err := controlapi.ParseServiceURL(derivePublicURL(t.Context(), listen, 8443, nil)); err != nil {
			t.Errorf("%s: %v", listen, err)
		}
	}
	for listen, want := range map[string]string{":3478": ":3478", "0.0.0.0:0": ":3478", "[::]:3478": ":3478", "192.0.2.1:1": "192.0.2.1:3478"} {
		if got := advertisedSTUN(listen, 3478); got[0] != want {
			t.Errorf("STUN on %s: %s, want %s", listen, got[0], want)
		}
	}
}

func TestSTUN(t *testing.T) {
	w := start(t, t.TempDir())
	c, err := net.Dial("udp", w.svc.STUNAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, "transaction!"...) // RFC 8489 section 5
	answer := make([]byte, 100)
	eventually(t, "an answer", func() bool {
		c.Write(request)
		c.SetReadDeadline(time.Now().Add(time.Second))
		n, err := c.Read(answer)
		return err == nil && n >= 32 && answer[0] == 1 && answer[1] == 1
	})
	_, text := w.get("GET", "/metrics", "")
	if !strings.Contains(text, `nexd_stun_answers_total{result="address"}`) || strings.Contains(text, "nexd_stun_requests_total 0") {
		t.Error("/metrics does not count STUN")
	}
	off := start(t, t.TempDir(), func(c *Config) { c.STUNListen = stunOff })
	if off.svc.STUNAddr().IsValid() || off.svc.hub.stun != nil {
		t.Error("STUN is not off")
	}
}
