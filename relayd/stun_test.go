package relayd

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"nexd/internal/opsport/opsporttest"
)

func TestSTUNOnTwoPorts(t *testing.T) {
	s, err := NewSTUN(STUNConfig{Listen: []string{"127.0.0.1:0", "127.0.0.1:0"}, OpsListen: "127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	for _, at := range s.Addrs() {
		askSTUN(t, at)
	}
	addr := s.OpsAddr().String()
	waitFor(t, "readiness", func() bool {
		code, _ := opsporttest.Get(t, addr, "/readyz")
		return code == http.StatusOK
	})
	opsporttest.Metrics(t, addr, "nexd_stun_requests_total 2", `nexd_stun_answers_total{result="address"} 2`, `nexd_stun_dropped_total{reason="limited"} 0`)
	if err := s.Run(ctx); err == nil {
		t.Error("ran twice")
	}
	if _, err := NewSTUN(STUNConfig{Listen: []string{s.Addrs()[0].String()}}); err == nil || !strings.Contains(err.Error(), "--stun-listen") {
		t.Errorf("a port in use: %v", err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestSTUNConfig(t *testing.T) {
	for want, cfg := range map[string]STUNConfig{
		"--stun-listen \"3478\"":     {Listen: []string{":3478", "3478"}},
		"--stun-listen \":x\"":       {Listen: []string{":x"}},
		"--stun-listen is given 17 ": {Listen: make([]string, 17)},
		"--ops-listen \"9\"":         {OpsListen: "9"},
	} {
		if _, err := NewSTUN(cfg); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
