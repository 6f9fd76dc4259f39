package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"nexd/localapi"
)

// get asks the operator's port; the connection is not kept.
func get(t *testing.T, addr, path string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	resp, err := client.Get("http://" + addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(body)
}

func TestOperatorsPort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	addr := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	taken := freePort(t)
	m := w.member("watched", func(c *Config) {
		c.OpsListen = addr
		c.Rules = specs(web(t), egress(t, fmt.Sprintf("tcp:%d:watched:80", taken)))
	})
	w.down()
	m.start()
	m.await("joining", func(st localapi.Status) bool { return st.State == localapi.StateJoining })
	if code, body := get(t, addr, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz while joining: %d %q", code, body)
	}
	var ready struct {
		Ready   bool
		State   string
		Reasons []string
	}
	if code, body := get(t, addr, "/readyz"); code != http.StatusServiceUnavailable || json.Unmarshal([]byte(body), &ready) != nil ||
		ready.Ready || ready.State != localapi.StateJoining || len(ready.Reasons) == 0 {
		t.Errorf("readyz while joining: %d %s", code, body)
	}
	lint(t, addr, "nexd_ready 0", "nexd_service_connected 0")
	w.up()
	m.await("running", isRunning)
	if code, body := get(t, addr, "/readyz"); code != http.StatusOK || json.Unmarshal([]byte(body), &ready) != nil || !ready.Ready || ready.State != localapi.StateRunning {
		t.Errorf("readyz: %d %s", code, body)
	}
	lint(t, addr, "nexd_ready 1", "nexd_service_connected 1", `nexd_peers{path="none"} 0`,
		`nexd_rule_listening{direction="ingress",rule="tcp:80:127.0.0.1:8080"} 1`,
		`nexd_tunnel_bytes_total{direction="sent"} `, "go_goroutines ")
	if code, _ := get(t, addr, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("an unknown path: %d", code)
	}

	// The same port is not for two; the second start says so and does not join.
	usage := w.member("second", func(c *Config) { c.OpsListen = addr }).refused()
	if !strings.Contains(usage.Message, "--ops-listen") || w.names() != "watched" {
		t.Errorf("a taken port: %q; the service knows %q", usage.Message, w.names())
	}
}

// lint parses the metrics and looks for the wanted lines' beginnings.
func lint(t *testing.T, addr string, want ...string) {
	t.Helper()
	code, body := get(t, addr, "/metrics")
	if code != http.StatusOK {
		t.Fatalf("metrics: %d %s", code, body)
	}
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

// The errors of this package are sentences; the join of several is still one.
func TestUsageErrorIsFound(t *testing.T) {
	t.Parallel()
	usage := (*UsageError)(nil)
	if err := errors.Join(joinUsage(errors.New("no")), nil); !errors.As(err, &usage) || err.Error() != "no" {
		t.Errorf("%v", err)
	}
}
