package bind

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/udpmsg"
	"nexd/test/need"
)

// openPair opens two sockets without readers and returns the IPv4 receiver of
// the second.
func openPair(t testing.TB, a, b conn.Bind) (receive conn.ReceiveFunc, to *conn.StdNetEndpoint) {
	t.Helper()
	if _, _, err := a.Open(0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	fns, port, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.Close() })
	return fns[0], local(false, port)
}

func batchedOf(t testing.TB, s *sockets) *batched {
	t.Helper()
	b, ok := s.now.Load().v4.via.(*batched)
	if !ok {
		need.Missing(t, "batched sockets")
	}
	return b
}

func TestKernelCutsAndJoins(t *testing.T) {
	a, b := newSockets().(*sockets), newSockets().(*sockets)
	receive, to := openPair(t, a, b)
	in := batchedOf(t, b).in
	if !batchedOf(t, a).cuts.Load() || in.tells == nil {
		need.Missing(t, "a kernel that cuts and joins datagrams")
	}
	sent := tagged(append(repeated(45, 1400), 700)...)
	if err := a.Send(sent, to); err != nil {
		t.Fatal(err)
	}
	bufs, sizes, eps := buffers(10, 1500) // less than was joined
	for got := 0; got < len(sent); {
		n, err := receive(bufs, sizes, eps)
		if err != nil {
			t.Fatal(err)
		}
		if in.got != 1 {
			t.Errorf("%d messages, want all in one", in.got)
		}
		for i := range n {
			if !bytes.Equal(bufs[i][:sizes[i]], sent[got]) || eps[i] != eps[0] {
				t.Fatalf("packet %d: %d bytes", got, sizes[i])
			}
			got++
		}
	}
}

func TestWithoutJoining(t *testing.T) {
	a, b := newSockets().(*sockets), newSockets().(*sockets)
	k := linux
	k.option = func(uintptr, int) (int, error) { return 0, unix.ENOPROTOOPT }
	b.carrier = func(c *net.UDPConn, v6 bool, log *slog.Logger) carrier {
		return newBatched(c, v6, k, joinedMessages, log)
	}
	receive, to := openPair(t, a, b)
	sent := tagged(append(repeated(60, 1400), 3000, 0, 9)...)
	if err := a.Send(sent, to); err != nil {
		t.Fatal(err)
	}
	bufs, sizes, eps := buffers(128, 2048)
	for got := 0; got < len(sent); {
		n, err := receive(bufs, sizes, eps)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			want := sent[got]
			if got++; len(want) > 2048 {
				want = nil // it has no room
			}
			if !bytes.Equal(bufs[i][:sizes[i]], want) || eps[i] != eps[0] {
				t.Fatalf("packet %d: %d bytes, want %d", got-1, sizes[i], len(want))
			}
		}
	}
	if err := b.Send(sent, to); err != nil { // which does not cut either
		t.Fatal(err)
	}
}

func TestMessagesAreWhatDevicesCut(t *testing.T) {
	for _, c := range []struct{ packets, size, want int }{
		{46, 1424, 45}, // 65504 bytes, and with headers more than 65536
		{45, 1424, 45},
		{128, 1400, 46},
		{128, 100, 64},
		{3, 32_700, 2},
		{2, 65_000, 1},
	} {
		if got := run(tagged(repeated(c.packets, c.size)...)); got != c.want {
			t.Errorf("%d packets of %d bytes: %d in a message, want %d", c.packets, c.size, got, c.want)
		}
	}
}

// The second message is refused as by a device that cannot cut: what has not
// left then goes one by one, and nothing is sent twice.
func TestDeviceThatCannotCut(t *testing.T) {
	a, b := newSockets().(*sockets), newSockets().(*sockets)
	receive, to := openPair(t, a, b)
	s := batchedOf(t, a)
	if !s.cuts.Load() {
		need.Missing(t, "a kernel that cuts datagrams")
	}
	o := outboxes.New().(*outbox)
	o.send = s.kernel.send
	calls := 0
	o.call = func(fd uintptr) bool {
		if calls++; calls == 1 {
			o.errno, o.next = unix.EIO, 1 // the first message has left
			return true
		}
		return o.some(fd)
	}
	sent := tagged(repeated(100, 1400)...)
	gaveUp, err := s.sendBatch(o, sent, udpmsg.PutAddr(&o.name, to.AddrPort, false))
	if !gaveUp || err != nil || s.cuts.Load() {
		t.Fatalf("gave up %v, error %v", gaveUp, err)
	}
	first := run(sent)
	bufs, sizes, eps := buffers(128, 1500)
	for got := first; got < len(sent); {
		n, err := receive(bufs, sizes, eps)
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			if !bytes.Equal(bufs[i][:sizes[i]], sent[got]) {
				t.Fatalf("packet %d: %d bytes", got, sizes[i])
			}
			got++
		}
	}
	if err := a.Send(sent[:2], to); err != nil {
		t.Errorf("later: %v", err)
	}
}

func TestCloseEndsABlockedSend(t *testing.T) {
	s := newSockets().(*sockets)
	if _, _, err := s.Open(0); err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := batchedOf(t, s)
	o := outboxes.New().(*outbox)
	full := make(chan struct{}, 1)
	o.call = func(uintptr) bool {
		select {
		case full <- struct{}{}:
		default:
		}
		return false
	}
	ended := make(chan error)
	go func() {
		_, err := b.sendBatch(o, tagged(100), udpmsg.PutAddr(&o.name, local(false, 9).AddrPort, false))
		ended <- err
	}()
	<-full
	s.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still blocked")
	}
}

func TestMark(t *testing.T) {
	s := newSockets().(*sockets)
	if err := s.SetMark(7); err != nil {
		t.Errorf("before Open: %v", err)
	}
	drain(t, s)
	err := s.SetMark(7)
	if errors.Is(err, syscall.EPERM) {
		need.Missing(t, "the privilege to mark packets")
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range []*socket{s.now.Load().v4, s.now.Load().v6} {
		if one == nil {
			continue
		}
		raw, _ := one.conn.SyscallConn()
		raw.Control(func(fd uintptr) {
			if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_MARK); got != 7 || err != nil {
				t.Errorf("mark %d, %v", got, err)
			}
		})
	}
}

func TestSocketsAllocateNothing(t *testing.T) {
	a, b := newSockets().(*sockets), newSockets().(*sockets)
	receive, to := openPair(t, a, b)
	batchedOf(t, a)
	sent := tagged(repeated(64, 1400)...)
	bufs, sizes, eps := buffers(128, 1500)
	if got := testing.AllocsPerRun(100, func() { exchange(t, a, receive, to, sent, bufs, sizes, eps) }); got >= 1 && !raceEnabled() {
		t.Errorf("%v allocations per batch", got)
	}
}

// raceEnabled reports whether a sync.Pool loses things on purpose.
func raceEnabled() bool {
	return testing.AllocsPerRun(100, func() { outboxes.Put(outboxes.Get()) }) > 0
}

// exchange sends a batch and waits until all of it has come.
func exchange(t testing.TB, a conn.Bind, receive conn.ReceiveFunc, to conn.Endpoint, sent, bufs [][]byte, sizes []int, eps []conn.Endpoint) {
	if err := a.Send(sent, to); err != nil {
		t.Fatal(err)
	}
	for got := 0; got < len(sent); {
		n, err := receive(bufs, sizes, eps)
		if err != nil {
			t.Fatal(err)
		}
		got += n
	}
}

// BenchmarkSockets is a full batch through loopback, beside that of wireguard-go.
func BenchmarkSockets(b *testing.B) {
	b.Run("own", func(b *testing.B) { benchmarkSockets(b, newSockets) })
	b.Run("StdNetBind", func(b *testing.B) { benchmarkSockets(b, conn.NewStdNetBind) })
}

func benchmarkSockets(b *testing.B, open func() conn.Bind) {
	const n, size = 128, 1400
	a, c := open(), open()
	receive, to := openPair(b, a, c)
	bufs, sizes, eps := buffers(n, 65535)
	var sent [][]byte
	for range n {
		sent = append(sent, make([]byte, size, 65535)) // as the device has them
	}
	b.ReportAllocs()
	b.SetBytes(n * size)
	for b.Loop() {
		exchange(b, a, receive, to, sent, bufs, sizes, eps)
	}
}

// Whatever the kernel tells, no byte is lost, doubled or moved.
func FuzzSplit(f *testing.F) {
	f.Add([]byte("abcdefgh"), 3, 2, 100)
	f.Add([]byte{}, 0, 1, 0)
	f.Add([]byte("abc"), -1, 1, 3)
	f.Add([]byte("abc"), 65536, 4, 2)
	f.Fuzz(func(t *testing.T, message []byte, size, room, space int) {
		room, space = 1+(room&0x7F), space&0xFFFF
		if len(message) > 65535 || room*space > 1<<22 {
			return
		}
		bufs, sizes, _ := buffers(room, space)
		whole := size
		if size <= 0 || size > len(message) {
			whole = len(message)
		}
		for rest := message; ; {
			n, taken := split(rest, size, bufs, sizes)
			if n == 0 || n > room || taken > len(rest) {
				t.Fatalf("%d packets, %d bytes of %d", n, taken, len(rest))
			}
			for i := range n {
				one := rest[:min(whole, len(rest))]
				want := one
				if len(one) > space {
					want = nil
				}
				if !bytes.Equal(bufs[i][:sizes[i]], want) {
					t.Fatalf("got %q, want %q", bufs[i][:sizes[i]], want)
				}
				rest, taken = rest[len(one):], taken-len(one)
			}
			if taken != 0 {
				t.Fatalf("%d bytes too many", taken)
			}
			if len(rest) == 0 {
				return
			}
		}
	})
}
