//go:build linux

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestPercentiles(t *testing.T) {
	m := &metric{Name: "silence", Unit: "ms", Goal: goal{P50: 10, P95: 19, Max: 20}}
	for i := 20; i >= 1; i-- {
		m.add(time.Duration(i) * time.Millisecond)
	}
	m.sum()
	if m.P50 != 10 || m.P95 != 19 || m.Max != 20 || m.verdict() != "reached" {
		t.Errorf("%+v: %s", m, m.verdict())
	}
	m.Goal.P95 = 18.9
	if m.verdict() != "MISSED" {
		t.Errorf("%+v: %s", m, m.verdict())
	}
	m.Goal = goal{None: true}
	if m.verdict() != "MISSED" || m.Goal.String() != "none" {
		t.Errorf("%+v: %s", m, m.verdict())
	}
	if m := (&metric{Goal: goal{Max: 1}}); m.verdict() != "nothing measured" {
		t.Errorf("no values: %s", m.verdict())
	}
}

func TestReport(t *testing.T) {
	r := report{Scenarios: []*result{
		{Name: "rebind", What: "a NAT forgets", Metrics: []*metric{{Name: "silence", Unit: "ms", Goal: goal{P95: 1000}, Values: []float64{1500}, P95: 1500}}},
		{Name: "relay", Skipped: "no relay"},
		{Name: "block", What: "nothing passes", Failures: []string{"run 1: it ended"}},
	}}
	var out bytes.Buffer
	r.print(&out)
	for _, want := range []string{"p95≤1000", "MISSED", "relay: not played: no relay", "failed: run 1: it ended", "cores busy"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
	if err := r.failed(); err == nil {
		t.Error("a failed run is no error")
	}
}
