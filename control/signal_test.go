package control

import (
	"testing"
	"time"

	"nexd/controlapi"
	"nexd/key"
)

func TestSignals(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.SignalRate = Rate{PerSecond: 0.01, Burst: 10} })
	secret := w.regKey(controlapi.RegKeyRequest{})
	a, b := w.join(wish(secret, "a")), w.join(wish(secret, "b"))
	send := func(to key.Public, payload string) (bool, *controlapi.Problem) {
		var out controlapi.SignalResult
		p, _ := w.send("POST", "/v1/signals", a.Credential, controlapi.Signal{To: to, Payload: []byte(payload)}, &out)
		return out.Delivered, p
	}
	if ok, p := send(b.private.Public(), "x"); ok || p != nil {
		t.Errorf("to one that is away: %v, %v", ok, p)
	}
	s := w.mustWatch(b, "")
	s.expect(controlapi.EventSnapshot)
	if ok, p := send(b.private.Public(), "hello"); !ok || p != nil {
		t.Errorf("not delivered: %v", p)
	}
	if sig := s.expect(controlapi.EventSignal).Signal; string(sig.Payload) != "hello" || sig.From != a.private.Public() || !sig.To.IsZero() {
		t.Errorf("signal %+v", sig)
	}
	big := make([]byte, controlapi.MaxSignal)
	if ok, p := send(b.private.Public(), string(big)); !ok || p != nil {
		t.Errorf("the largest: %v", p)
	}
	for _, c := range []struct {
		what    string
		to      key.Public
		payload string
		want    controlapi.Code
	}{
		{"stranger", key.NewPrivate().Public(), "x", controlapi.CodeNotFound},
		{"itself", a.private.Public(), "x", controlapi.CodeInvalid},
		{"nobody", key.Public{}, "x", controlapi.CodeInvalid},
		{"too large", b.private.Public(), string(big) + "x", controlapi.CodeTooLarge},
		{"empty", b.private.Public(), "", controlapi.CodeInvalid},
	} {
		_, p := send(c.to, c.payload)
		if p == nil || p.Code != c.want && !(c.want == controlapi.CodeTooLarge && p.Code == controlapi.CodeInvalid) {
			t.Errorf("%s: %v, want %s", c.what, p, c.want)
		}
	}
	for range 10 {
		send(b.private.Public(), "x")
	}
	_, p := send(b.private.Public(), "x")
	w.refused(p, controlapi.CodeRateLimited)
}

// A signal is written when it comes, not with the next heartbeat or change.
func TestSignalsDoNotWait(t *testing.T) {
	w := start(t, t.TempDir(), func(c *Config) { c.Heartbeat = time.Hour })
	secret := w.regKey(controlapi.RegKeyRequest{})
	a, b := w.join(wish(secret, "a")), w.join(wish(secret, "b"))
	s := w.mustWatch(b, "")
	s.expect(controlapi.EventSnapshot)
	for i := range 20 {
		var out controlapi.SignalResult
		begin := time.Now()
		if p, _ := w.send("POST", "/v1/signals", a.Credential, controlapi.Signal{To: b.private.Public(), Payload: []byte{byte(i)}}, &out); p != nil || !out.Delivered {
			t.Fatalf("signal %d: %v", i, p)
		}
		if sig := s.expect(controlapi.EventSignal).Signal; sig.Payload[0] != byte(i) {
			t.Errorf("signal %d: got %v", i, sig.Payload)
		}
		if took := time.Since(begin); took > 2*time.Second {
			t.Errorf("signal %d took %v", i, took)
		}
	}
}
