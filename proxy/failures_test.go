package proxy

import (
	"errors"
	"testing"
	"time"

	"nexd/rules"
)

// Connections that fail together are one failure: the destination is tried again
// after the first wait, not after the longest.
func TestFailuresTogetherAreOne(t *testing.T) {
	r := oneRule(t, rules.Ingress, "tcp:80:127.0.0.1:80")
	for range 100 {
		r.destinationFailed(errors.New("refused"))
	}
	if wait := time.Until(r.retryAt); wait > firstBackoff {
		t.Errorf("put off for %v", wait)
	}
	if got := r.status().Stats.DialErrors; got != 100 {
		t.Errorf("%d errors told", got)
	}
	r.retryAt = time.Now() // its time has come, and it fails again
	r.destinationFailed(errors.New("refused"))
	if wait := time.Until(r.retryAt); wait <= firstBackoff {
		t.Errorf("put off for %v the second time", wait)
	}
}
