//go:build linux

package cluster

import (
	"maps"
	"strings"
	"testing"
)

func TestParseMetrics(t *testing.T) {
	got, err := parseMetrics(strings.NewReader(`# HELP nexd_peers Members.
# TYPE nexd_peers gauge
nexd_peers{path="direct"} 3
go_gc_duration_seconds_sum 1.5e-05

`))
	want := map[string]float64{`nexd_peers{path="direct"}`: 3, "go_gc_duration_seconds_sum": 1.5e-05}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseMetrics(strings.NewReader("nexd_peers three\n")); err == nil {
		t.Error("three is a number")
	}
}
