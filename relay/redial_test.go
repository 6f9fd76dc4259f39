package relay

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// A client whose credential is taken away while UDP is being tried does not
// connect by WebSocket again and again.
func TestNoCredentialNoConnections(t *testing.T) {
	r := newRelay(t)
	var dials atomic.Int64
	r.node("net", mutedUDP, func(n *testNode, c *ClientConfig) {
		c.Dial = func(ctx context.Context, network, address string) (net.Conn, error) {
			n.cred.Store(new([]byte))
			dials.Add(1)
			return new(net.Dialer).DialContext(ctx, network, address)
		}
	})
	start := time.Now()
	waitFor(t, "UDP to be given up", func() bool { return time.Since(start) > proofPatience+200*time.Millisecond })
	if n := dials.Load(); n < 1 || n > 10 {
		t.Errorf("%d connections while there was no credential", n)
	}
}
