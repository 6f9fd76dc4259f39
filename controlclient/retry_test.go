package controlclient

import (
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"nexd/controlapi"
)

func TestNextWait(t *testing.T) {
	lo, hi := 200*time.Millisecond, 30*time.Second
	for attempt, ceiling := range map[int]time.Duration{
		0: 400 * time.Millisecond, 1: 800 * time.Millisecond, 3: 3200 * time.Millisecond,
		7: 30 * time.Second, 40: 30 * time.Second, 100000: 30 * time.Second,
	} {
		var least, most time.Duration = hi, 0
		for range 500 {
			w := nextWait(lo, hi, attempt)
			if w < lo || w > ceiling {
				t.Fatalf("attempt %d: %v, want %v to %v", attempt, w, lo, ceiling)
			}
			least, most = min(least, w), max(most, w)
		}
		if spread := most - least; spread < (ceiling-lo)/2 {
			t.Errorf("attempt %d: all of 500 waits lie within %v", attempt, spread)
		}
	}
	if w := nextWait(time.Second, time.Second, 5); w != time.Second {
		t.Errorf("no room for chance: %v", w)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		header string
		want   time.Duration
		ok     bool
	}{
		{"", 0, false},
		{"3", 3 * time.Second, true},
		{"0", 0, true},
		{"-1", 0, false},
		{"soon", 0, false},
		{"999999999999999999999", 0, false},
		{"4294967295", maxRetryAfter, true},
		{"Sun, 01 Mar 2026 12:00:05 GMT", 5 * time.Second, true},
		{"Sun, 01 Mar 2026 11:00:00 GMT", 0, true},
		{"Sun, 01 Mar 2099 12:00:00 GMT", maxRetryAfter, true},
	} {
		resp := &http.Response{Header: http.Header{}}
		resp.Header.Set("Retry-After", tc.header)
		if got, ok := retryAfter(resp, now); got != tc.want || ok != tc.ok {
			t.Errorf("%q: %v %t, want %v %t", tc.header, got, ok, tc.want, tc.ok)
		}
	}
	if _, ok := retryAfter(nil, now); ok {
		t.Error("no response has a Retry-After")
	}
}

func TestWorthwhile(t *testing.T) {
	status := func(s int, code controlapi.Code) error { return &controlapi.Problem{Status: s, Code: code} }
	dial := &ConnectError{Err: &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}}
	broken := &ConnectError{Err: &net.OpError{Op: "read", Err: syscall.ECONNRESET}}
	for _, tc := range []struct {
		name             string
		err              error
		repeatable, once bool
	}{
		{"400", status(400, controlapi.CodeInvalid), false, false},
		{"401", status(401, controlapi.CodeUnauthorized), false, false},
		{"403", status(403, controlapi.CodeKeyExpired), false, false},
		{"404", status(404, ""), false, false},
		{"408", status(408, ""), true, false},
		{"409", status(409, controlapi.CodeNameTaken), false, false},
		{"425", status(425, ""), true, true},
		{"429", status(429, controlapi.CodeRateLimited), true, true},
		{"500", status(500, controlapi.CodeInternal), true, false},
		{"501", status(501, ""), false, false},
		{"502", status(502, ""), true, false},
		{"503", status(503, ""), true, true},
		{"503 that means it", status(503, controlapi.CodeExhausted), false, false},
		{"507 that means it", status(507, controlapi.CodeExhausted), false, false},
		{"never connected", dial, true, true},
		{"broken off", broken, true, false},
		{"not a service", notService("x", nil), false, false},
		{"wrong pin", &PinError{}, false, false},
		{"wrong date", &CertTimeError{}, false, false},
		{"anything else", errors.New("x"), false, false},
	} {
		if got := worthwhile(tc.err, true); got != tc.repeatable {
			t.Errorf("%s, repeatable: %t", tc.name, got)
		}
		if got := worthwhile(tc.err, false); got != tc.once {
			t.Errorf("%s, once only: %t", tc.name, got)
		}
	}
}

func TestReplacedWaitsGrow(t *testing.T) {
	w := watcher{w: WatchConfig{}.withDefaults()}
	const minute = time.Minute
	for _, base := range []time.Duration{5 * time.Second, 5 * minute, 10 * minute, 20 * minute, 40 * minute, 80 * minute, 80 * minute} {
		if wait := w.wait(ErrReplaced, 0); wait < base || wait > base+base/10+time.Second {
			t.Errorf("waits %v, want about %v", wait, base)
		}
	}
	w.wait(errors.New("refused"), 0)
	if wait := w.wait(ErrReplaced, 0); wait > 7*time.Second {
		t.Errorf("another time: waits %v", wait)
	}
}

func TestWaitsGrowUntilHealthy(t *testing.T) {
	w := watcher{w: WatchConfig{}.withDefaults()}
	down := errors.New("refused")
	for range 20 {
		w.wait(down, 0)
	}
	if w.failures != 20 {
		t.Errorf("counted %d failures", w.failures)
	}
	if wait := w.wait(down, time.Minute); wait < time.Minute || wait > 67*time.Second {
		t.Errorf("told to come back in a minute, waits %v", wait)
	}
	if wait := w.wait(errShutdown, 0); wait > 4*time.Second {
		t.Errorf("after an announced restart: %v", wait)
	}
	if w.failures != 0 {
		t.Errorf("%d failures after an announced restart", w.failures)
	}
	if wait := w.wait(errKicked, 0); wait != 0 {
		t.Errorf("after a change of network: %v", wait)
	}
}
