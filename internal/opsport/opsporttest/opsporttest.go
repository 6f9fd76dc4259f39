// Package opsporttest reads a daemon's operator's port as its users do.
package opsporttest

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

// Get asks the port at addr, host:port, for path. The connection is not kept.
func Get(t testing.TB, addr, path string) (code int, body string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	resp, err := client.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

// Metrics reads /metrics at addr and holds it to [Lint].
func Metrics(t testing.TB, addr string, want ...string) {
	t.Helper()
	code, body := Get(t, addr, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("metrics: %d %s", code, body)
	}
	Lint(t, body, want...)
}

// Lint holds metrics to Prometheus' customs, and looks for lines that begin so.
func Lint(t testing.TB, body string, want ...string) {
	t.Helper()
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatalf("metrics do not parse: %v", err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "nexd_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
	for _, line := range want {
		if !strings.Contains("\n"+body, "\n"+line) {
			t.Errorf("metrics lack %q:\n%s", line, body)
		}
	}
}
