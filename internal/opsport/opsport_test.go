package opsport_test

import (
	"context"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"nexd/internal/opsport"
	"nexd/internal/opsport/opsporttest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPort(t *testing.T) {
	var ready atomic.Bool
	things := prometheus.NewGauge(prometheus.GaugeOpts{Name: "things", Help: "Things."})
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
	addr := p.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.Run(ctx) }()

	if code, body := opsporttest.Get(t, addr, "/healthz"); code != http.StatusOK || body != "ok\n" {
		t.Errorf("healthz: %d %q", code, body)
	}
	if code, body := opsporttest.Get(t, addr, "/readyz"); code != http.StatusServiceUnavailable || body != `{"ready":false,"state":"starting","reasons":["not yet"]}`+"\n" {
		t.Errorf("readyz: %d %s", code, body)
	}
	ready.Store(true)
	var r opsport.Readiness
	if code, body := opsporttest.Get(t, addr, "/readyz"); code != http.StatusOK || json.Unmarshal([]byte(body), &r) != nil || !r.Ready || r.Reasons == nil {
		t.Errorf("readyz: %d %s", code, body)
	}
	opsporttest.Metrics(t, addr, "things 0", "go_goroutines ")
	if code, _ := opsporttest.Get(t, addr, "/debug/pprof/"); code != http.StatusNotFound {
		t.Errorf("an unknown path: %d", code)
	}
	if _, err := opsport.Listen(addr, opsport.Config{}); err == nil {
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
