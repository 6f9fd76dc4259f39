package cli

import (
	"testing"
	"time"
)

func TestSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536: "1.5 KiB", 1048575: "1.0 MiB",
		5 << 30: "5.0 GiB", 1<<63 - 1: "8.0 EiB",
	} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}

func TestTimes(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		d           time.Duration
		back, ahead string
	}{
		{30 * time.Second, "30s ago", "in 30s"},
		{90 * time.Minute, "1h ago", "in 1h"},
		{time.Hour - time.Second, "1h ago", "in 1h"},
		{47 * time.Hour, "47h ago", "in 47h"},
		{72 * time.Hour, "3d ago", "in 3d"},
	} {
		if got := ago(now.Add(-tt.d), now); got != tt.back {
			t.Errorf("%s back: %q", tt.d, got)
		}
		if got := until(now.Add(tt.d), now); got != tt.ahead {
			t.Errorf("%s ahead: %q", tt.d, got)
		}
	}
	if ago(time.Time{}, now) != "never" || until(time.Time{}, now) != "never" || until(now, now) != "expired" || ago(now.Add(time.Second), now) != "now" {
		t.Error("an edge of time is wrong")
	}
}

func TestParseDuration(t *testing.T) {
	for s, want := range map[string]time.Duration{"10s": 10 * time.Second, "7d": 168 * time.Hour, "0": 0, "1h30m": 90 * time.Minute} {
		if got, err := parseDuration(s); err != nil || got != want {
			t.Errorf("%q: %v, %v", s, got, err)
		}
	}
	for _, s := range []string{"", "d", "-1s", "-1d", "1.5d", "99999999d", "10", "forever"} {
		if d, err := parseDuration(s); err == nil {
			t.Errorf("%q is %v", s, d)
		}
	}
}

func TestNearest(t *testing.T) {
	words := []string{"ingress", "egress", "mtu"}
	for s, want := range map[string]string{"igress": "ingress", "egres": "egress", "mtuu": "mtu", "hostname": ""} {
		if got := nearest(s, words); got != want {
			t.Errorf("nearest(%q) = %q, want %q", s, got, want)
		}
	}
}
