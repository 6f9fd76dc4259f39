package relayd

import (
	"crypto/tls"
	"encoding/json"
	"net/http"
	"testing"

	"nexd/internal/opsport"
	"nexd/internal/opsport/opsporttest"
)

// getTLS asks whoever it is.
func getTLS(t *testing.T, url string) int {
	t.Helper()
	client := &http.Client{Timeout: patience, Transport: &http.Transport{
		DisableKeepAlives: true, TLSClientConfig: &tls.Config{InsecureSkipVerify: true},
	}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// checkMetrics is of a relay with one session by UDP and one by TLS.
func checkMetrics(t *testing.T, r *running) {
	t.Helper()
	addr := r.OpsAddr().String()
	if code, body := opsporttest.Get(t, addr, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	var ready opsport.Readiness
	if code, body := opsporttest.Get(t, addr, "/readyz"); code != http.StatusOK || json.Unmarshal([]byte(body), &ready) != nil || ready.State != stateRunning {
		t.Errorf("readyz: %d %s", code, body)
	}
	opsporttest.Metrics(t, addr, "nexd_relay_ready 1", "nexd_relay_service_connected 1", `nexd_relay_sessions{transport="udp"} 1`,
		`nexd_relay_sessions{transport="tls"} 1`, "nexd_relay_networks 1", "nexd_relay_admitted_total 2", `nexd_relay_packets_total{transport="udp"} `,
		`nexd_relay_bytes_total{transport="tls"} `, "nexd_stun_requests_total 1", `nexd_stun_answers_total{result="address"} 1`, "go_goroutines ")
	if code := getTLS(t, "https://"+r.WebAddr().String()+"/metrics"); code != http.StatusNotFound {
		t.Errorf("metrics on the port of clients: %d", code)
	}
}
