//go:build linux

package lab

import (
	"encoding/binary"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// flights numbers the flights: what is left of one is not taken for another's.
var flights atomic.Uint64

// flight sends packets from one socket to another, a gap apart, and returns how
// long each was under way; 0: lost. Two of them out of order fail the test. As a
// cable keeps the order, nothing of a flight comes after its end, which is sent
// until it arrives.
func flight(t *testing.T, from *net.UDPConn, to netip.AddrPort, out *net.UDPConn, count, size int, gap time.Duration) []time.Duration {
	t.Helper()
	taken := make([]time.Duration, count)
	number := flights.Add(1)
	start := time.Now()
	landed, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		packet := make([]byte, size)
		binary.BigEndian.PutUint64(packet[16:], number)
		send := func(i int) {
			binary.BigEndian.PutUint64(packet, uint64(i))
			binary.BigEndian.PutUint64(packet[8:], uint64(time.Since(start)))
			from.WriteToUDPAddrPort(packet, to)
		}
		for i := range count {
			send(i)
			time.Sleep(gap)
		}
		again := time.NewTicker(20 * time.Millisecond)
		defer again.Stop()
		for {
			select {
			case <-landed:
				return
			case <-again.C:
				send(count)
			}
		}
	}()
	defer func() {
		close(landed)
		<-ended
	}()
	out.SetReadBuffer(8 << 20)
	out.SetReadDeadline(time.Now().Add(time.Minute))
	packet := make([]byte, 2048)
	for last := -1; ; {
		n, err := out.Read(packet)
		if err != nil {
			t.Errorf("the end of a flight: %v", err)
			return taken
		}
		if n != size || binary.BigEndian.Uint64(packet[16:]) != number {
			continue
		}
		i := int(binary.BigEndian.Uint64(packet))
		if i == count {
			return taken
		}
		if i <= last || i > count {
			t.Errorf("packet %d came after %d", i, last)
			return taken
		}
		last = i
		taken[i] = time.Since(start) - time.Duration(binary.BigEndian.Uint64(packet[8:]))
	}
}

// summary returns how many arrived, and the shortest and longest way.
func summary(taken []time.Duration) (arrived int, shortest, longest time.Duration) {
	for _, d := range taken {
		if d == 0 {
			continue
		}
		if arrived++; shortest == 0 || d < shortest {
			shortest = d
		}
		longest = max(longest, d)
	}
	return arrived, shortest, longest
}

func TestLatency(t *testing.T) {
	t.Parallel()
	l := New(t)
	home := l.Site(PortRestricted, Options{})
	pub, in := listen(t, l.Pub, "udp4"), listen(t, home.Node(1).Host, "udp4")
	pubAt := at(pub, pubAddrs[0])
	mapped := want(t, "out", in, pubAt, pub, true)

	const delay = 25 * time.Millisecond
	home.Latency(delay, 0, 0)
	if again := want(t, "over the new cable", in, pubAt, pub, true); again != mapped {
		t.Errorf("the new cable changed the mapping from %s to %s", mapped, again)
	}
	for what, taken := range map[string][]time.Duration{
		"out": flight(t, in, pubAt, pub, 100, 100, time.Millisecond),
		"in":  flight(t, pub, mapped, in, 100, 100, time.Millisecond),
	} {
		arrived, shortest, longest := summary(taken)
		if arrived != 100 || shortest < delay || shortest > delay+25*time.Millisecond {
			t.Errorf("%s: %d of 100 arrived after %s to %s, want %s", what, arrived, shortest, longest, delay)
		}
	}

	home.Latency(0, 20*time.Millisecond, 0)
	arrived, shortest, longest := summary(flight(t, in, pubAt, pub, 200, 100, 2*time.Millisecond))
	if arrived != 200 || shortest > 15*time.Millisecond || longest-shortest < 10*time.Millisecond {
		t.Errorf("jitter: %d of 200 arrived after %s to %s", arrived, shortest, longest)
	}
}

func TestLoss(t *testing.T) {
	t.Parallel()
	l := New(t)
	sites := []*Site{l.Site(Public, Options{}), l.Site(CGNAT, Options{})}
	const packets, share = 2000, 0.1
	each(sites, func(s *Site) {
		pub, in := listen(t, l.Pub, "udp4"), listen(t, s.Node(1).Host, "udp4")
		pubAt := at(pub, pubAddrs[0])
		mapped := want(t, "out", in, pubAt, pub, true)
		s.Latency(0, 0, share)
		for what, taken := range map[string][]time.Duration{
			"out": flight(t, in, pubAt, pub, packets, 100, 100*time.Microsecond),
			"in":  flight(t, pub, mapped, in, packets, 100, 100*time.Microsecond),
		} {
			arrived, _, _ := summary(taken)
			// Five standard deviations are 67 packets.
			if lost := packets - arrived; lost < packets*share-67 || lost > packets*share+67 {
				t.Errorf("%s, %s: %d of %d are lost, want about %g", s.Kind, what, lost, packets, packets*share)
			}
		}
		s.Latency(0, 0, 0)
		if arrived, _, _ := summary(flight(t, in, pubAt, pub, 500, 100, 100*time.Microsecond)); arrived != 500 {
			t.Errorf("%s: %d of 500 arrive when nothing is to be lost", s.Kind, arrived)
		}
	})
}

// A hundred packets a second of this size fill the rate; the queue holds 50 ms.
func TestRate(t *testing.T) {
	t.Parallel()
	l := New(t)
	s := l.Site(Public, Options{})
	pub, in := listen(t, l.Pub, "udp4"), listen(t, s.Node(1).Host, "udp4")
	want(t, "out", in, at(pub, pubAddrs[0]), pub, true)
	s.Rate(1_000_000)
	want(t, "out", in, at(pub, pubAddrs[0]), pub, true)
	// 10 ms each; without a gap about six find room.
	arrived, _, _ := summary(flight(t, in, at(pub, pubAddrs[0]), pub, 60, 1208, 0))
	if arrived < 3 || arrived > 15 {
		t.Errorf("%d of 60 arrived at once, want about 6", arrived)
	}
	if lost := s.Overflowed(); lost < int64(60-arrived) {
		t.Errorf("%d of 60 arrived, but %d are counted as lost", arrived, lost)
	}
	if arrived, _, _ := summary(flight(t, in, at(pub, pubAddrs[0]), pub, 30, 1208, 15*time.Millisecond)); arrived < 28 {
		t.Errorf("%d of 30 arrived below the rate", arrived)
	}
}
