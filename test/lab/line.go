//go:build linux

package lab

import (
	"fmt"
	"os"
	"time"

	"nexd/test/need"
)

// Latency sets what the site's cable does to packets: each direction delays
// them by delay and up to jitter more, in order, and loses a share of them (0
// to 1). It takes the place of what was set before. The first delay replaces
// the cable, which interrupts it for some milliseconds.
func (s *Site) Latency(delay, jitter time.Duration, loss float64) {
	s.lab.t.Helper()
	if delay < 0 || jitter < 0 || loss < 0 || loss > 1 {
		s.lab.t.Fatalf("%s: latency %s, jitter %s, loss %g", s.Name, delay, jitter, loss)
	}
	if delay > 0 || jitter > 0 || s.cable != nil {
		s.wire().shape(delay, jitter)
	}
	s.lose(loss)
}

// Rate bounds each direction of the site's cable, in bits per second; 0: no
// bound. A queue of 50 ms stands before it; what does not fit is lost.
func (s *Site) Rate(bits int64) {
	s.lab.t.Helper()
	if bits > 0 || s.cable != nil {
		s.wire().bound(bits)
	}
}

// Overflowed returns how many packets the site's cable lost because they did not
// fit its rate or its queue; those that Latency was told to lose do not count.
func (s *Site) Overflowed() int64 {
	if s.cable == nil {
		return 0
	}
	return s.cable.lost.Load()
}

// lose drops a share of the packets where they come out of the cable, before
// anything there has seen them.
func (s *Site) lose(share float64) {
	s.lab.t.Helper()
	const of = 100000
	name := "loss_" + s.Name
	for _, end := range []struct {
		port string
		host interface{ NFT(string) }
	}{{s.upPort, s.up}, {"wan0", s.router}} {
		var r script
		r.replace("inet", name)
		r.chain("filter", "prerouting", "-400")
		if n := int(share * of); n > 0 {
			r.add("iifname %q meta l4proto != ipv6-icmp numgen random mod %d < %d drop", end.port, of, n)
		}
		r.end()
		r.end()
		end.host.NFT(r.String())
	}
}

// wire returns the userspace cable, which takes the place of the veth pair when
// it is first needed.
func (s *Site) wire() *wire {
	s.lab.t.Helper()
	if s.cable != nil {
		return s.cable
	}
	if _, err := os.Stat("/dev/net/tun"); err != nil {
		need.Missing(s.lab.t, "/dev/net/tun: a delay needs TAP devices")
	}
	s.router.IP("link del wan0")
	w, err := newWire(s.up, s.upPort, s.router, "wan0")
	if err != nil {
		s.lab.t.Fatalf("%s: %v", s.Name, fmt.Errorf("replace the cable: %w", err))
	}
	s.lab.t.Cleanup(w.close)
	s.cable = w
	s.plug()
	return w
}
