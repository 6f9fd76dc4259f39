package netstack_test

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nexd/netstack"
	"nexd/netstack/netstacktest"
)

// sizes are those of the packets on a wire.
type sizes struct {
	mu      sync.Mutex
	largest [2]int // from a, from b
	mss     [2]int // in the last SYN from a, from b
}

func (s *sizes) see(p []byte, fromA bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := 1
	if fromA {
		i = 0
	}
	s.largest[i] = max(s.largest[i], len(p))
	ip, protocol := 20, p[9]
	if p[0]>>4 == 6 {
		ip, protocol = 40, p[6]
	}
	if protocol == uint8(header.TCPProtocolNumber) {
		if tcp := header.TCP(p[ip:]); tcp.Flags()&header.TCPFlagSyn != 0 {
			s.mss[i] = int(header.ParseSynOptions(tcp.Options(), false).MSS)
		}
	}
	return true
}

// take returns the largest packets since the last take.
func (s *sizes) take() (fromA, fromB int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fromA, fromB = s.largest[0], s.largest[1]
	s.largest = [2]int{}
	return fromA, fromB
}

// move sends bytes one way.
func move(t *testing.T, from, to net.Conn, n int) {
	t.Helper()
	var wait sync.WaitGroup
	wait.Go(func() {
		if _, err := from.Write(make([]byte, n)); err != nil {
			t.Error(err)
		}
	})
	if _, err := io.CopyN(io.Discard, struct{ io.Reader }{to}, int64(n)); err != nil {
		t.Error(err)
	}
	wait.Wait()
}

// What is known of a path rules both directions of new connections, whoever
// dials, and what one side knows is enough.
func TestPathMTUOfNewConnections(t *testing.T) {
	for _, f := range families {
		for _, test := range []struct {
			name     string
			a, b     int // MTU to the other side
			mss      int // of an MTU
			atA, atB bool
		}{
			{"known to who dials", 1300, 0, 1300, true, false},
			{"known to who accepts", 0, 1300, 1300, false, true},
			{"known to both", 8920, 8920, 8920, true, true},
		} {
			t.Run(f.name+" "+test.name, func(t *testing.T) {
				var seen sizes
				a, b := netstacktest.PairWith(t, netstacktest.Options{Hook: seen.see})
				a.SetPathMTU(f.b, test.a)
				b.SetPathMTU(f.a, test.b)
				client, server := connect(t, a, b, f.b)
				exchange(t, client, server, 1<<20)
				headers := 40
				if f.b.Is6() {
					headers = 60
				}
				fromA, fromB := seen.take()
				if fromA > test.mss || fromB > test.mss || fromA < test.mss-100 || fromB < test.mss-100 {
					t.Errorf("packets of %d and %d bytes, MTU %d", fromA, fromB, test.mss)
				}
				if test.atA && seen.mss[0] > a.PathMTU(f.b)-headers || test.atB && seen.mss[1] > b.PathMTU(f.a)-headers {
					t.Errorf("MSS %v", seen.mss)
				}
			})
		}
	}
}

// A connection follows its path: larger packets as it carries more, smaller
// ones as it carries less, also than when it was made.
func TestPathMTUOfOldConnections(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			var seen sizes
			a, b := netstacktest.PairWith(t, netstacktest.Options{Hook: seen.see})
			client, server := connect(t, a, b, f.b)
			for _, step := range []struct{ mtu, least, most int }{
				{0, 1300, netstack.DefaultMTU},
				{8920, 6000, 8920},
				{1280, 1200, 1280},
				{4000, 2600, 4000},
				{0, 1300, netstack.DefaultMTU},
			} {
				a.SetPathMTU(f.b, step.mtu)
				b.SetPathMTU(f.a, step.mtu)
				for _, n := range []int{100_000, 2 << 20} { // first what was queued before
					seen.take()
					move(t, client, server, n)
					move(t, server, client, n)
				}
				if x, y := seen.take(); x < step.least || x > step.most || y < step.least || y > step.most {
					t.Errorf("packets of %d and %d bytes at MTU %d", x, y, step.mtu)
				}
			}
		})
	}
}

// Datagrams and echo requests of all sizes pass whatever the MTU is.
func TestPathMTUOfDatagrams(t *testing.T) {
	for _, f := range families {
		for _, mtu := range []int{1280, 1420, 8920} {
			var seen sizes
			a, b := netstacktest.PairWith(t, netstacktest.Options{Hook: seen.see})
			a.SetPathMTU(f.b, mtu)
			server, at := listenUDP(t, b, f.b)
			client := dialUDP(t, a, at)
			for _, size := range []int{0, 1200, 1300, 5000, 65507} {
				data := make([]byte, size)
				for i := range data {
					data[i] = byte(i * i >> 3)
				}
				must(t, write(client, string(data)))
				buf := make([]byte, 65507)
				if n, _, err := server.ReadFrom(buf); err != nil || string(buf[:n]) != string(data) {
					t.Fatalf("%s, MTU %d: %d bytes came as %d: %v", f.name, mtu, size, n, err)
				}
			}
			if fromA, _ := seen.take(); fromA > mtu || fromA < mtu-20 {
				t.Errorf("%s: a packet of %d bytes, MTU %d", f.name, fromA, mtu)
			}
		}
	}
}

func TestPathMTUIsBounded(t *testing.T) {
	s := netstacktest.Stack(t, 0)
	to := netip.MustParseAddr("100.64.0.9")
	for _, test := range [][2]int{{0, netstack.DefaultMTU}, {1, netstack.MinMTU}, {1300, 1300}, {1 << 20, netstack.MaxPathMTU}, {0, netstack.DefaultMTU}} {
		s.SetPathMTU(netip.AddrFrom16(to.As16()), test[0])
		if got := s.PathMTU(to); got != test[1] {
			t.Errorf("%d became %d, want %d", test[0], got, test[1])
		}
	}
}

// A pinned MTU is that of all.
func TestPinnedMTU(t *testing.T) {
	var seen sizes
	a, b := netstacktest.PairWith(t, netstacktest.Options{MTU: 1400, Hook: seen.see})
	a.SetPathMTU(netstacktest.B4, 8920)
	b.SetPathMTU(netstacktest.A4, 1280)
	client, server := connect(t, a, b, netstacktest.B4)
	exchange(t, client, server, 1<<20)
	if fromA, fromB := seen.take(); fromA > 1400 || fromB > 1400 || fromA < 1300 || fromB < 1300 || a.PathMTU(netstacktest.B4) != 1400 {
		t.Errorf("packets of %d and %d bytes", fromA, fromB)
	}
}
