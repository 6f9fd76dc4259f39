package controlclient_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"nexd/controlclient"
	"nexd/controlclient/controlclienttest"
)

func TestWaysOfTrust(t *testing.T) {
	now := time.Now()
	type config = controlclient.Config
	valid := func(t *testing.T) *controlclienttest.Fake { return controlclienttest.NewFake(t) }
	dated := func(from, to time.Duration) func(*testing.T) *controlclienttest.Fake {
		return func(t *testing.T) *controlclienttest.Fake {
			return controlclienttest.NewFakeWithCertificate(t, controlclienttest.SelfSigned(t, now.Add(from), now.Add(to)))
		}
	}
	elsewhere := func(t *testing.T) *controlclienttest.Fake { return controlclienttest.NewFakeOn(t, "127.0.0.2:0") }
	day := 24 * time.Hour
	for _, tc := range []struct {
		name  string
		fake  func(*testing.T) *controlclienttest.Fake
		trust func(*config, *controlclienttest.Fake)
		want  string // of the error; empty: joins
		hint  string
	}{
		{"pin", valid, func(c *config, f *controlclienttest.Fake) { c.Pin = f.Pin() }, "", ""},
		{"pin, clock a year slow", dated(365*day, 400*day), func(c *config, f *controlclienttest.Fake) { c.Pin = f.Pin() }, "", ""},
		{"pin, certificate long over", dated(-400*day, -365*day), func(c *config, f *controlclienttest.Fake) { c.Pin = f.Pin() }, "", ""},
		{"another pin", valid, func(c *config, f *controlclienttest.Fake) { c.Pin = "AAAA" }, "not the pinned one", "new registration key"},
		{"authority", valid, func(c *config, f *controlclienttest.Fake) { c.CAFile = f.CAFile() }, "", ""},
		{"authority and pin", valid, func(c *config, f *controlclienttest.Fake) { c.CAFile, c.Pin = f.CAFile(), f.Pin() }, "", ""},
		{"authority does not outweigh the pin", valid, func(c *config, f *controlclienttest.Fake) { c.CAFile, c.Pin = f.CAFile(), "AAAA" }, "not the pinned one", ""},
		{"nothing", valid, func(*config, *controlclienttest.Fake) {}, "signed by nobody", "whole registration key"},
		{"insecure", valid, func(c *config, _ *controlclienttest.Fake) { c.Insecure = true }, "", ""},
		{"authority, clock slow", dated(3*day+time.Minute, 9*day), func(c *config, f *controlclienttest.Fake) { c.CAFile = f.CAFile() }, "begins", "at least 3 days slow"},
		{"authority, over", dated(-9*day, -5*time.Hour-time.Minute), func(c *config, f *controlclienttest.Fake) { c.CAFile = f.CAFile() }, "ended", "5 hours"},
		{"authority, another name", elsewhere, func(c *config, f *controlclienttest.Fake) { c.CAFile = f.CAFile() }, "another name", "in the service URL"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := tc.fake(t)
			c := client(t, f, func(cfg *config) { cfg.Pin = ""; tc.trust(cfg, f) })
			_, err := c.Join(within(t, 10*time.Second), params("web"))
			if tc.want == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("got %v, want …%s…", err, tc.want)
			}
			if hint := controlclient.Hint(err); !strings.Contains(hint, tc.hint) {
				t.Errorf("hint %q, want …%s…", hint, tc.hint)
			}
			if n := f.Requests("POST /v1/challenge"); n != 0 {
				t.Errorf("%d requests reached a service that is not trusted", n)
			}
		})
	}
}

func TestWrongPinIsTyped(t *testing.T) {
	f := controlclienttest.NewFake(t)
	c := client(t, f, func(cfg *controlclient.Config) { cfg.Pin = "AAAA" })
	_, err := c.Join(within(t, 10*time.Second), params("web"))
	var pin *controlclient.PinError
	if !errors.As(err, &pin) || pin.Got != f.Pin() || pin.Want != "AAAA" {
		t.Errorf("got %#v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		cfg  controlclient.Config
		want string
	}{
		"plain HTTP":  {controlclient.Config{ServiceURL: "http://svc:8080"}, "not encrypted: use https://svc:8080"},
		"no URL":      {controlclient.Config{}, "want https://HOST:PORT"},
		"no CA file":  {controlclient.Config{ServiceURL: "https://svc", CAFile: "/nonexistent.pem"}, "CA file"},
		"bad CA file": {controlclient.Config{ServiceURL: "https://svc", CAFile: empty}, "no certificate in it"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := controlclient.New(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want …%s…", err, tc.want)
			}
		})
	}
}

func TestNotTLS(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	c, err := controlclient.New(controlclient.Config{ServiceURL: strings.Replace(plain.URL, "http:", "https:", 1), Insecure: true})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, err = c.Join(within(t, 10*time.Second), params("web"))
	if err == nil || !strings.Contains(err.Error(), "does not speak TLS") {
		t.Errorf("got %v", err)
	}
}
