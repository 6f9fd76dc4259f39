package netstack

import (
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"
)

// What a connection promised before its peer was known to be near is kept, too:
// data may come, and be acknowledged, before anybody accepts the connection.
func TestBesideKeepsEarlyPromises(t *testing.T) {
	const scale, units = 7, 4096
	b, now := newBeside(), time.Second
	b.leaveAt(now, 5, syn(header.TCPFlagAck, scale))
	b.leaveAt(now, 5, segmentWith(1000, units))
	b.isNear(5, &nearness{})
	b.leaveAt(now, 6, segmentWith(1, 100))
	tcp := segmentWith(2000, units)
	b.leaveAt(now, 5, tcp)
	promised, edge := 1000+units<<scale, 2000+int(tcp.WindowSize())<<scale
	if edge < promised {
		t.Errorf("%d bytes were promised and taken back", promised-edge)
	}
	if tcp.WindowSize() == units {
		t.Error("the window is as large as if it were alone")
	}
}
