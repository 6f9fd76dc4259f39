package netstack_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"nexd/netstack"
	"nexd/netstack/netstacktest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var families = []struct {
	name string
	a, b netip.Addr
}{
	{"v4", netstacktest.A4, netstacktest.B4},
	{"v6", netstacktest.A6, netstacktest.B6},
}

const patience = 60 * time.Second

func testContext(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func listen(t testing.TB, s *netstack.Stack, addr netip.Addr) (net.Listener, netip.AddrPort) {
	t.Helper()
	l, err := s.ListenTCP(netip.AddrPortFrom(addr, 0))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, netip.AddrPortFrom(addr, uint16(l.Addr().(*net.TCPAddr).Port))
}

// connect makes a connection from a to b.
func connect(t testing.TB, a, b *netstack.Stack, to netip.Addr) (client, server *netstack.Conn) {
	t.Helper()
	l, at := listen(t, b, to)
	defer l.Close()
	client, err := a.DialTCP(testContext(t), at)
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	server = accepted.(*netstack.Conn)
	t.Cleanup(func() { client.Close(); server.Close() })
	deadline := time.Now().Add(patience)
	client.SetDeadline(deadline)
	server.SetDeadline(deadline)
	return client, server
}

// pour writes n random bytes, ends the direction and returns their hash.
func pour(c *netstack.Conn, n int64, seed uint64) ([]byte, error) {
	h := sha256.New()
	source := rand.NewChaCha8([32]byte{byte(seed)})
	buf := make([]byte, 64<<10)
	for n > 0 {
		b := buf[:min(n, int64(len(buf)))]
		source.Read(b)
		h.Write(b)
		if _, err := c.Write(b); err != nil {
			return nil, err
		}
		n -= int64(len(b))
	}
	return h.Sum(nil), c.CloseWrite()
}

func drain(c *netstack.Conn) ([]byte, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, struct{ io.Reader }{c})
	return h.Sum(nil), n, err
}

// exchange sends n bytes each way at once and checks both.
func exchange(t testing.TB, client, server *netstack.Conn, n int64) {
	t.Helper()
	var wait sync.WaitGroup
	type result struct {
		sum []byte
		err error
	}
	sent, got := make([]result, 2), make([]result, 2)
	for i, c := range []*netstack.Conn{client, server} {
		wait.Go(func() { sent[i].sum, sent[i].err = pour(c, n, uint64(i)) })
		wait.Go(func() {
			var count int64
			got[1-i].sum, count, got[1-i].err = drain(c)
			if got[1-i].err == nil && count != n {
				got[1-i].err = fmt.Errorf("%d bytes of %d", count, n)
			}
		})
	}
	wait.Wait()
	for i := range sent {
		if sent[i].err != nil || got[i].err != nil {
			t.Fatalf("direction %d: sent %v, received %v", i, sent[i].err, got[i].err)
		}
		if !bytes.Equal(sent[i].sum, got[i].sum) {
			t.Fatalf("direction %d: other bytes arrived than were sent", i)
		}
	}
}

func TestBulkBothWays(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			for range 20 {
				var still stillness
				a, b := netstacktest.PairWith(t, netstacktest.Options{Hook: still.see})
				client, server := connect(t, a, b, f.b)
				exchange(t, client, server, 8<<20)
				s := a.Stats()
				if s.TxFull != 0 && still.longest() >= netstack.QueueWait/2 {
					continue // nobody read: the machine stood still
				}
				if s.TxFull != 0 || s.RxMalformed != 0 || s.RxForeign != 0 {
					t.Errorf("dropped packets: %+v", s)
				}
				return
			}
			t.Fatal("the machine is too slow to tell")
		})
	}
}

// stillness is the longest time in which no packet of a's was on the wire.
type stillness struct {
	mu   sync.Mutex // guards the fields below
	last time.Time
	most time.Duration
}

func (s *stillness) see(_ []byte, fromA bool) bool {
	if !fromA {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if !s.last.IsZero() {
		s.most = max(s.most, now.Sub(s.last))
	}
	s.last = now
	return true
}

func (s *stillness) longest() time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.most
}

func TestBulkOverBadWire(t *testing.T) {
	for loss, size := range map[float64]int64{0.01: 2 << 20, 0.05: 256 << 10} {
		t.Run(fmt.Sprint(loss), func(t *testing.T) {
			a, b := netstacktest.PairWith(t, netstacktest.Options{Loss: loss, Reorder: 0.02, Seed: 7})
			client, server := connect(t, a, b, netstacktest.B4)
			exchange(t, client, server, size)
		})
	}
}

func TestMTU(t *testing.T) {
	for _, mtu := range []int{-1, 1279, 65536} {
		if _, err := netstack.New(netstack.Config{MTU: mtu}); err == nil {
			t.Errorf("MTU %d is accepted", mtu)
		}
	}
	for _, mtu := range []int{1280, 1420, 8920, 65535} {
		t.Run(fmt.Sprint(mtu), func(t *testing.T) {
			var mu sync.Mutex
			largest := 0
			a, b := netstacktest.PairWith(t, netstacktest.Options{MTU: mtu, Hook: func(p []byte, _ bool) bool {
				mu.Lock()
				largest = max(largest, len(p))
				mu.Unlock()
				return true
			}})
			if got, _ := a.Device().MTU(); got != mtu {
				t.Errorf("device says MTU %d", got)
			}
			client, server := connect(t, a, b, netstacktest.B6)
			exchange(t, client, server, 4<<20)
			mu.Lock()
			defer mu.Unlock()
			if largest > mtu {
				t.Errorf("a packet of %d bytes at MTU %d", largest, mtu)
			}
		})
	}
}

func TestOwnAddress(t *testing.T) {
	a := netstacktest.Stack(t, 0, netstacktest.A4, netstacktest.A6)
	for _, f := range families {
		client, server := connect(t, a, a, f.a)
		exchange(t, client, server, 1<<20)
		if _, err := a.Ping(testContext(t), f.a); err != nil {
			t.Error(err)
		}
	}
	if s := a.Stats(); s.TxPackets != 0 {
		t.Errorf("packets to own addresses left the stack: %+v", s)
	}
}

func TestDualStackListener(t *testing.T) {
	a, b := netstacktest.Pair(t)
	l, at := listen(t, b, netip.IPv6Unspecified())
	for _, f := range families {
		client, err := a.DialTCP(testContext(t), netip.AddrPortFrom(f.b, at.Port()))
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		if got := server.RemoteAddr().(*net.TCPAddr).AddrPort(); got != client.LocalAddr().(*net.TCPAddr).AddrPort() || got.Addr() != f.a {
			t.Errorf("%s: server sees %v, client is %v", f.name, got, client.LocalAddr())
		}
		if got := server.LocalAddr().String(); got != netip.AddrPortFrom(f.b, at.Port()).String() {
			t.Errorf("%s: server is %v", f.name, got)
		}
	}
}

func TestDialErrors(t *testing.T) {
	a, b := netstacktest.Pair(t)
	_ = b
	only4 := netstacktest.Stack(t, 0, netstacktest.A4)
	none := netstacktest.Stack(t, 0)
	for _, test := range []struct {
		name string
		from *netstack.Stack
		to   string
		want error
	}{
		{"closed port v4", a, "100.64.0.2:9", syscall.ECONNREFUSED},
		{"closed port v6", a, "[fd00::2]:9", syscall.ECONNREFUSED},
		{"own closed port", a, "100.64.0.1:9", syscall.ECONNREFUSED},
		{"port 0", a, "100.64.0.2:0", syscall.ECONNREFUSED},
		{"no address", none, "100.64.0.2:9", syscall.ENETUNREACH},
		{"no address of the family", only4, "[fd00::2]:9", syscall.ENETUNREACH},
		{"loopback", a, "127.0.0.1:9", syscall.EHOSTUNREACH},
		{"multicast", a, "224.0.0.1:9", syscall.ENETUNREACH},
		{"unspecified", a, "0.0.0.0:9", syscall.ENETUNREACH},
	} {
		c, err := test.from.DialTCP(testContext(t), netip.MustParseAddrPort(test.to))
		var op *net.OpError
		if !errors.Is(err, test.want) || !errors.As(err, &op) || c != nil {
			t.Errorf("%s: %v, want %v", test.name, err, test.want)
		}
	}
}

func TestDialCancel(t *testing.T) {
	a, b := netstacktest.PairWith(t, netstacktest.Options{Hook: func([]byte, bool) bool { return false }})
	_ = b
	for _, f := range families {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		_, err := a.DialTCP(ctx, netip.AddrPortFrom(f.b, 80))
		cancel()
		var timeout net.Error
		if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("deadline: %v", err)
		}
		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		if _, err := a.DialTCP(ctx, netip.AddrPortFrom(f.b, 80)); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	}
	if n := a.Endpoints(); n != 0 {
		t.Errorf("%d endpoints are left", n)
	}
}
