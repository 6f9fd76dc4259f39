package proxy

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"nexd/rules"
)

// TestDialTimeoutSaysSo: a socket's own deadline, which is the context's, may
// pass a moment before the context ends; the reason is the same.
func TestDialTimeoutSaysSo(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	e := &Engine{life: ctx, log: slog.New(slog.DiscardHandler), cfg: Config{OnChange: func() {}}}
	r := newRule(e, rules.Rule{
		Direction: rules.Ingress, Protocol: rules.TCP, Port: 80,
		Target:  rules.Target{Addr: netip.MustParseAddr("127.0.0.1"), Port: 81},
		Options: rules.Options{DialTimeout: 5 * time.Millisecond},
	})
	r.listens("", "")
	for dials := 0; dials < 20; {
		before := dials
		_, err := r.dial(func(ctx context.Context) (net.Conn, error) {
			dials++
			for end, _ := ctx.Deadline(); time.Now().Before(end); { // no timer: it would be late
			}
			return nil, os.ErrDeadlineExceeded
		})
		if dials == before { // the time was over before it came to it
			continue
		}
		const want = "dial 127.0.0.1:81: no answer within 5ms"
		if got := r.status().Error; err == nil || got != want {
			t.Fatalf("the rule says %q, want %q (%v)", got, want, err)
		}
	}
}
