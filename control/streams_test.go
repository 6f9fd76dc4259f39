package control

import (
	"net/http"
	"strconv"
	"testing"

	"nexd/controlapi"
)

// Each stream begins with the whole map, which waits in memory while its reader
// is slow: a device that opens one after another is held back, and no other.
func TestStreamsAreLimited(t *testing.T) {
	const burst = 3
	w := start(t, t.TempDir(), func(c *Config) { c.UpdateRate = Rate{PerSecond: 0.01, Burst: burst} })
	secret := w.regKey(controlapi.RegKeyRequest{})
	a, b := w.join(wish(secret, "a")), w.join(wish(secret, "b"))
	for range burst {
		w.mustWatch(a, "")
	}
	if s, p := w.watch(a, ""); s != nil {
		t.Fatal("a stream more is not refused")
	} else {
		w.refused(p, controlapi.CodeRateLimited)
	}
	_, res := w.send("GET", "/v1/watch", a.Credential, nil, nil)
	if after, err := strconv.Atoi(res.Header.Get("Retry-After")); err != nil || after < 1 || res.StatusCode != http.StatusTooManyRequests {
		t.Errorf("status %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
	// What the device says of itself is counted apart, and so is another device.
	if p, _ := w.send("PUT", "/v1/self/relays", a.Credential, controlapi.Homes{Relays: []string{}}, nil); p != nil {
		t.Errorf("relays of the device: %v", p)
	}
	w.mustWatch(b, "").expect(controlapi.EventSnapshot)
}
