package netstack_test

import (
	"context"
	"net"
	"testing"

	"nexd/internal/duplex"
	"nexd/internal/duplex/duplextest"
	"nexd/netstack/netstacktest"
)

func meshPair(t testing.TB) (near, far net.Conn) {
	a, b := netstacktest.Pair(t)
	return connect(t, a, b, netstacktest.B4)
}

// What a proxy does with streams works on ours as on the host's sockets:
// half-close, resets and the rest pass from one kind to the other.
func TestStreamsPassThroughProxyLoop(t *testing.T) {
	duplextest.Run(t, duplex.Copy, meshPair, duplextest.TCP)
}

// The same where nobody waits in a stream, and no buffer lies between.
func TestStreamsPassThroughMover(t *testing.T) {
	for _, host := range []struct {
		name string
		pair duplextest.Pair
	}{{"TCP", duplextest.TCP}, {"Unix", duplextest.Unix}, {"Pipe", duplextest.Pipe}} {
		t.Run(host.name, func(t *testing.T) {
			m := duplex.NewMover()
			defer m.Close()
			duplextest.Run(t, waiting(m), meshPair, host.pair)
		})
	}
}

// waiting makes Move wait, as the suite wants it.
func waiting(m *duplex.Mover) duplextest.Copier {
	return func(ctx context.Context, a, b net.Conn, o duplex.Options) duplex.Result {
		done := make(chan duplex.Result, 1)
		m.Move(ctx, a, b, o, func(r duplex.Result) { done <- r })
		return <-done
	}
}
