// Package opsporttest reads a daemon's operator's port as its users do, and what
// collectors have for it.
package opsporttest

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
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

// Metrics reads /metrics at addr and holds it to [Lint] and [Documented].
func Metrics(t testing.TB, addr string, want ...string) {
	t.Helper()
	code, body := Get(t, addr, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("metrics: %d %s", code, body)
	}
	Lint(t, body, want...)
	Documented(t, body)
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

// Values reads a collector: each value by the metric's name, which has to begin
// with prefix, and its labels' values, as "sessions udp". It holds the names to
// Prometheus' customs.
func Values(t testing.TB, prefix string, c prometheus.Collector) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry() // refuses two of one name and labels
	registry.MustRegister(c)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	if problems, err := promlint.NewWithMetricFamilies(families).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	got := map[string]float64{}
	for _, f := range families {
		name, ok := strings.CutPrefix(f.GetName(), prefix)
		if !ok {
			t.Errorf("%s does not begin with %s", f.GetName(), prefix)
		}
		for _, m := range f.Metric {
			labelled := name
			for _, l := range m.Label {
				labelled += " " + l.GetValue()
			}
			got[labelled] = m.GetGauge().GetValue() + m.GetCounter().GetValue()
		}
	}
	return got
}

var ours = regexp.MustCompile(`(?m)^# TYPE (nexd_\w+) `)

// Documented holds the names of our metrics to docs/operate.md, which lists them.
func Documented(t testing.TB, metrics string) {
	t.Helper()
	page, err := readUp(filepath.Join("docs", "operate.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range ours.FindAllStringSubmatch(metrics, -1) {
		if !strings.Contains(page, "`"+m[1]+"`") {
			t.Errorf("docs/operate.md does not say what %s is", m[1])
		}
	}
}

// readUp reads a file of this module from wherever in it the test runs.
func readUp(name string) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if above := filepath.Dir(dir); err != nil && above != dir {
			dir = above
			continue
		}
		return string(b), err
	}
}
