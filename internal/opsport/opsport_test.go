package opsport_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"nexd/internal/opsport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func get(t *testing.T, p *opsport.Port, path string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 20 * time.Second}
	resp, err := client.Get("http://" + p.Addr().String() + path)
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

func TestPort(t *testing.T) {
	var ready atomic.Bool
	things := prometheus.NewGauge(prometheus.GaugeOpts{Name: "nexd_things", Help: "Things."})
	p, err := opsport.Listen("127.0.0.1:0", opsport.Config{
		Readiness: func() opsport.Readiness {
			if ready.Load() {
				return opsport.Readiness{Ready: true, State: "running"}
			}
			return opsport.Readiness{State: "starting", Reasons: []string{"not yet"}}
		},
		Collect: []prometheus.Collector{things},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()

	if code, body := get(t, p, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	if code, body := get(t, p, "/readyz"); code != http.StatusServiceUnavailable || body != `{"ready":false,"state":"starting","reasons":["not yet"]}`+"\n" {
		t.Errorf("readyz: %d %s", code, body)
	}
	ready.Store(true)
	var r opsport.Readiness
	if code, body := get(t, p, "/readyz"); code != http.StatusOK || json.Unmarshal([]byte(body), &r) != nil || !r.Ready || r.Reasons == nil {
		t.Errorf("readyz: %d %s", code, body)
	}
	if code, body := get(t, p, "/metrics"); code != http.StatusOK || !strings.Contains(body, "nexd_things 0") || !strings.Contains(body, "go_goroutines") {
		t.Errorf("metrics: %d %s", code, body)
	}
	if code, _ := get(t, p, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("an unknown path: %d", code)
	}
	if _, err := opsport.Listen(p.Addr().String(), opsport.Config{}); err == nil {
		t.Error("one port for two")
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
}

func TestAPortThatNeverRanIsClosed(t *testing.T) {
	p, err := opsport.Listen("127.0.0.1:0", opsport.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Close(); err != nil {
		t.Error(err)
	}
	if err := p.Run(context.Background()); err != nil {
		t.Errorf("running a closed port: %v", err)
	}
}
