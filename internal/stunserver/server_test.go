package stunserver

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nexd/internal/stunwire"
	"nexd/test/need"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a server on addr until the test ends.
func start(t *testing.T, pc net.PacketConn) *Server {
	t.Helper()
	s := New(pc, nil)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

func listen(t *testing.T, addr string) net.PacketConn {
	t.Helper()
	pc, err := net.ListenPacket("udp", addr)
	if err != nil {
		need.Missing(t, err.Error())
	}
	return pc
}

func dial(t *testing.T, to net.Addr) net.Conn {
	t.Helper()
	c, err := net.Dial("udp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

func ask(t *testing.T, c net.Conn, request []byte) []byte {
	t.Helper()
	if _, err := c.Write(request); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 2048)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return b[:n]
}

func TestTellsTheSource(t *testing.T) {
	for _, addr := range []string{"127.0.0.1:0", "[::1]:0"} {
		t.Run(addr, func(t *testing.T) {
			pc := listen(t, addr)
			s := start(t, pc)
			c := dial(t, pc.LocalAddr())
			id := stunwire.NewTxID()
			answer := ask(t, c, stunwire.AppendRequest(nil, id))
			m, err := stunwire.Parse(answer)
			if err != nil || m.Class != stunwire.Success || m.ID != id || m.Mapped.String() != c.LocalAddr().String() || !m.Fingerprint {
				t.Errorf("answer %+v, %v; want %s", m, err, c.LocalAddr())
			}
			if got := s.Stats(); got.Answers != 1 || got.Requests != 1 {
				t.Errorf("stats %+v", got)
			}
		})
	}
}

func TestDualStackTellsIPv4AsIPv4(t *testing.T) {
	pc := listen(t, ":0")
	start(t, pc)
	_, port, _ := net.SplitHostPort(pc.LocalAddr().String())
	c, err := net.Dial("udp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(10 * time.Second))
	m, err := stunwire.Parse(ask(t, c, stunwire.AppendRequest(nil, stunwire.NewTxID())))
	if err != nil || !m.Mapped.Addr().Is4() {
		t.Errorf("answer %+v, %v", m, err)
	}
}

func TestUnknownAttributeIsRefused(t *testing.T) {
	pc := listen(t, "127.0.0.1:0")
	start(t, pc)
	changeRequest := []byte{0, 1, 0, 8, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 0, 3, 0, 4, 0, 0, 0, 6}
	answer := ask(t, dial(t, pc.LocalAddr()), changeRequest)
	if m, err := stunwire.Parse(answer); err != nil || m.Code != 420 {
		t.Errorf("answer %+v, %v", m, err)
	}
	if float64(len(answer)) > 1.5*float64(len(changeRequest)) {
		t.Errorf("an error of %d bytes to %d", len(answer), len(changeRequest))
	}
}

// TestJunkThenRequest: after junk of every kind an honest request is answered,
// and it is the only answer.
func TestJunkThenRequest(t *testing.T) {
	pc := listen(t, "127.0.0.1:0")
	s := start(t, pc)
	c := dial(t, pc.LocalAddr())
	request := stunwire.AppendRequest(nil, stunwire.NewTxID())
	junk := [][]byte{
		{},
		{0},
		request[:19], append(request[:len(request):len(request)], 0), make([]byte, 1400),
		stunwire.AppendSuccess(nil, stunwire.NewTxID(), netip.MustParseAddrPort("192.0.2.1:1"), true),
		{0, 0x11, 0, 0, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12},
	}
	for _, b := range junk {
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	ask(t, c, request)
	if got := s.Stats(); got.Junk != uint64(len(junk)) || got.Answers != 1 {
		t.Errorf("stats %+v after %d pieces of junk", got, len(junk))
	}
}

func TestFloodStaysInBudget(t *testing.T) {
	s := New(nil, nil)
	request := stunwire.AppendRequest(nil, stunwire.NewTxID())
	now := time.Unix(1000, 0)
	answers := func(from netip.Addr, n int) (count int) {
		for range n {
			if len(s.answer(nil, request, netip.AddrPortFrom(from, 7), now)) > 0 {
				count++
			}
		}
		return count
	}
	if n := answers(netip.MustParseAddr("192.0.2.1"), 1000); n != sourceBurst {
		t.Errorf("%d answers to one source at once, want %d", n, sourceBurst)
	}
	now = now.Add(time.Second)
	if n := answers(netip.MustParseAddr("192.0.2.1"), 1000); n != sourceRate {
		t.Errorf("%d answers to one source in a second, want %d", n, sourceRate)
	}
	// Another host of the same /64 shares the budget, another /64 does not.
	answers(netip.MustParseAddr("2001:db8::1"), 1000)
	if n := answers(netip.MustParseAddr("2001:db8::2"), 1000); n != 0 {
		t.Errorf("%d answers to a second host of a /64", n)
	}
	// Forged sources without end: the whole stays in its budget.
	now = now.Add(time.Minute)
	total := 0
	for i := range 100_000 {
		total += answers(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)
	}
	if total > totalBurst {
		t.Errorf("%d answers at once in all, want at most %d", total, totalBurst)
	}
}

// flaky fails its first reads.
type flaky struct {
	net.PacketConn
	left atomic.Int32
}

func (f *flaky) ReadFrom(b []byte) (int, net.Addr, error) {
	if f.left.Add(-1) >= 0 {
		return 0, nil, errors.New("host unreachable")
	}
	return f.PacketConn.ReadFrom(b)
}

func TestReadErrorsAreSurvived(t *testing.T) {
	f := &flaky{PacketConn: listen(t, "127.0.0.1:0")}
	f.left.Store(4)
	s := start(t, f)
	ask(t, dial(t, f.LocalAddr()), stunwire.AppendRequest(nil, stunwire.NewTxID()))
	if got := s.Stats().ReadErrors; got != 4 {
		t.Errorf("%d read errors counted", got)
	}
}

func TestSocketClosedByOthers(t *testing.T) {
	pc := listen(t, "127.0.0.1:0")
	pc.Close()
	if err := New(pc, nil).Run(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
}

// FuzzAnswer: no panic, one bounded answer at most, and only to a request.
func FuzzAnswer(f *testing.F) {
	f.Add(stunwire.AppendRequest(nil, stunwire.TxID{1}))
	f.Add(stunwire.AppendError(nil, stunwire.TxID{1}, 420, []uint16{1}, true))
	f.Fuzz(func(t *testing.T, packet []byte) {
		s := New(nil, nil)
		for _, from := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
			b := s.answer(nil, packet, netip.MustParseAddrPort(from), time.Unix(1, 0))
			if len(b) > max(52, len(packet)*3/2) {
				t.Fatalf("%d bytes for %d", len(b), len(packet))
			}
			if len(b) > 0 && packet[1] != 1 {
				t.Fatalf("an answer to %x", packet)
			}
		}
	})
}
