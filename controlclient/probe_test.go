package controlclient_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"nexd/controlclient"
	"nexd/controlclient/controlclienttest"
)

// A probe tells a service from anything else that speaks HTTPS.
func TestProbe(t *testing.T) {
	answer := func(status int, body string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.URL.Path != "/healthz" || r.Header.Get("Authorization") != "" {
				t.Errorf("%s %s", r.Method, r.URL.Path)
			}
			w.WriteHeader(status)
			io.WriteString(w, body)
		})
	}
	for _, tc := range []struct {
		name   string
		answer http.Handler
		want   string
	}{
		{"alive", answer(200, `{"status":"ok"}`), ""},
		{"a page", answer(200, "<html>"), "does not look like a nexd service"},
		{"other JSON", answer(200, "{}"), "does not look like a nexd service"},
		{"no such path", answer(404, "not here"), "not as a nexd service does"},
		{"down behind a proxy", answer(502, "bad gateway"), "502"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv := httptest.NewTLSServer(tc.answer)
			t.Cleanup(srv.Close)
			c, err := controlclient.New(controlclient.Config{ServiceURL: srv.URL, Insecure: true})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(c.Close)
			err = c.Probe(within(t, 10*time.Second))
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
	t.Run("wrong pin", func(t *testing.T) {
		f := controlclienttest.NewFake(t)
		c := client(t, f, func(cfg *controlclient.Config) { cfg.Pin = "AAAA" })
		if err := c.Probe(within(t, 10*time.Second)); err == nil || !strings.Contains(err.Error(), "not the pinned one") {
			t.Errorf("got %v", err)
		}
	})
	t.Run("unreachable", func(t *testing.T) {
		c, err := controlclient.New(controlclient.Config{ServiceURL: "https://127.0.0.1:1"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(c.Close)
		start := time.Now()
		if err := c.Probe(within(t, 10*time.Second)); err == nil || !strings.Contains(err.Error(), "refuses") {
			t.Errorf("got %v", err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("took %s: it is tried once", d)
		}
	})
}
