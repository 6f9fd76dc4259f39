package relayd

import (
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"nexd/internal/opsport"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	return fetch(t, &http.Transport{DisableKeepAlives: true}, url)
}

// getTLS asks whoever it is.
func getTLS(t *testing.T, url string) (int, string) {
	t.Helper()
	return fetch(t, &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, url)
}

func fetch(t *testing.T, transport *http.Transport, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: transport, Timeout: patience}
	resp, err := client.Get(url)
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

// checkMetrics is of a relay with one session by UDP and one by TLS.
func checkMetrics(t *testing.T, r *running) {
	t.Helper()
	base := "http://" + r.OpsAddr().String()
	if code, body := get(t, base+"/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	var ready opsport.Readiness
	if code, body := get(t, base+"/readyz"); code != http.StatusOK || json.Unmarshal([]byte(body), &ready) != nil || ready.State != stateRunning {
		t.Errorf("readyz: %d %s", code, body)
	}
	_, body := get(t, base+"/metrics")
	lintMetrics(t, body, "nexd_relay_ready 1", "nexd_relay_service_connected 1", `nexd_relay_sessions{transport="udp"} 1`,
		`nexd_relay_sessions{transport="tls"} 1`, "nexd_relay_networks 1", "nexd_relay_admitted_total 2", `nexd_relay_packets_total{transport="udp"} `,
		`nexd_relay_bytes_total{transport="tls"} `, "nexd_stun_requests_total 1", `nexd_stun_answers_total{result="address"} 1`, "go_goroutines ")
	if code, _ := getTLS(t, "https://"+r.WebAddr().String()+"/metrics"); code != http.StatusNotFound {
		t.Errorf("metrics on the port of clients: %d", code)
	}
}

// lintMetrics holds metrics to Prometheus' customs, and looks for lines.
func lintMetrics(t *testing.T, body string, want ...string) {
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
