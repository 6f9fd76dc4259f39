package proxy_test

import (
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"nexd/proxy"
)

// noDial is a mesh in which no datagram socket can be had.
type noDial struct{ proxy.Mesh }

func (noDial) DialUDP(netip.AddrPort) (net.Conn, error) { return nil, syscall.EHOSTUNREACH }

// Datagrams that waited for a destination that cannot be had are told as dropped.
func TestWaitingDatagramsAreCounted(t *testing.T) {
	w := loopbackWorld(t)
	w.mesh = noDial{w.mesh}
	w.start(time.Second)
	e := w.udpEnds("egress", 0)
	w.apply(e.line(""))
	w.listening(0)
	c := dialledUDP(t, e.dial)
	const many = 5
	for range many {
		if _, err := c.Write([]byte("anybody?")); err != nil {
			t.Fatal(err)
		}
	}
	w.eventually(0, "all counted", func(s proxy.RuleStatus) bool { return s.Stats.DroppedIn == many && s.Active == 0 })
}
