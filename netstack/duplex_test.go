package netstack_test

import (
	"net"
	"testing"

	"nexd/internal/duplex"
	"nexd/internal/duplex/duplextest"
	"nexd/netstack/netstacktest"
)

// What a proxy does with streams works on ours as on the host's sockets:
// half-close, resets and the rest pass from one kind to the other.
func TestStreamsPassThroughProxyLoop(t *testing.T) {
	mesh := func(t testing.TB) (near, far net.Conn) {
		a, b := netstacktest.Pair(t)
		return connect(t, a, b, netstacktest.B4)
	}
	duplextest.Run(t, duplex.Copy, mesh, duplextest.TCP)
}
