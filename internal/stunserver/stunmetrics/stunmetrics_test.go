package stunmetrics_test

import (
	"maps"
	"testing"

	"nexd/internal/opsport/opsporttest"
	"nexd/internal/stunserver"
	"nexd/internal/stunserver/stunmetrics"
)

func TestEachCountHasItsName(t *testing.T) {
	stats := func() stunserver.Stats {
		return stunserver.Stats{Requests: 1, Answers: 2, Errors: 3, Junk: 4, Limited: 5, ReadErrors: 6, WriteErrors: 7}
	}
	want := map[string]float64{
		"requests_total": 1, "answers_total address": 2, "answers_total error": 3,
		"dropped_total junk": 4, "dropped_total limited": 5, "dropped_total send": 7,
	}
	if got := opsporttest.Values(t, "nexd_stun_", stunmetrics.New(stats, nil)); !maps.Equal(got, want) {
		t.Errorf("its own port: got %v, want %v", got, want)
	}
	want["dropped_total queue"] = 8
	if got := opsporttest.Values(t, "nexd_stun_", stunmetrics.New(stats, func() uint64 { return 8 })); !maps.Equal(got, want) {
		t.Errorf("a shared port: got %v, want %v", got, want)
	}
}
