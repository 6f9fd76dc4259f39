package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"nexd/internal/opsport"
	"nexd/internal/opsport/opsporttest"
	"nexd/localapi"
	"nexd/test/need"
)

func TestOperatorsPort(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	addr := fmt.Sprintf("127.0.0.1:%d", need.Port(t))
	taken := need.Port(t)
	m := w.member("watched", func(c *Config) {
		c.OpsListen = addr
		c.Rules = specs(web(t), egress(t, fmt.Sprintf("tcp:%d:watched:80", taken)))
	})
	w.down()
	m.start()
	m.await("joining", func(st localapi.Status) bool { return st.State == localapi.StateJoining })
	if code, body := opsporttest.Get(t, addr, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz while joining: %d %q", code, body)
	}
	var ready opsport.Readiness
	if code, body := opsporttest.Get(t, addr, "/readyz"); code != http.StatusServiceUnavailable || json.Unmarshal([]byte(body), &ready) != nil ||
		ready.Ready || ready.State != localapi.StateJoining || len(ready.Reasons) == 0 {
		t.Errorf("readyz while joining: %d %s", code, body)
	}
	opsporttest.Metrics(t, addr, "nexd_ready 0", "nexd_service_connected 0")
	w.up()
	m.await("running", isRunning)
	if code, body := opsporttest.Get(t, addr, "/readyz"); code != http.StatusOK || json.Unmarshal([]byte(body), &ready) != nil || !ready.Ready || ready.State != localapi.StateRunning {
		t.Errorf("readyz: %d %s", code, body)
	}
	opsporttest.Metrics(t, addr, "nexd_ready 1", "nexd_service_connected 1", `nexd_peers{path="none"} 0`,
		`nexd_rule_listening{direction="ingress",rule="tcp:80:127.0.0.1:8080"} 1`,
		`nexd_tunnel_bytes_total{direction="sent"} `, "go_goroutines ")
	if code, _ := opsporttest.Get(t, addr, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("an unknown path: %d", code)
	}

	// The same port is not for two; the second start says so and does not join.
	usage := w.member("second", func(c *Config) { c.OpsListen = addr }).refused()
	if !strings.Contains(usage.Message, "--ops-listen") || w.names() != "watched" {
		t.Errorf("a taken port: %q; the service knows %q", usage.Message, w.names())
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
