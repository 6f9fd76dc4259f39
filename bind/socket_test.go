package bind

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/key"
	"nexd/test/need"
)

// packet is what a reader got out of a socket.
type packet struct {
	data []byte
	from conn.Endpoint
}

// reading opens a real Bind on loopback and reads all its sockets. The channel
// is closed when every reader has ended.
func reading(t *testing.T, b *Bind) <-chan packet {
	t.Helper()
	fns, port, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	if port == 0 || port != b.Port() {
		t.Fatalf("port %d, Port() %d", port, b.Port())
	}
	out := make(chan packet, 4096)
	var left atomic.Int32
	left.Store(int32(len(fns)))
	for _, fn := range fns {
		go func() {
			defer func() {
				if left.Add(-1) == 0 {
					close(out)
				}
			}()
			n := b.BatchSize()
			bufs, sizes, eps := make([][]byte, n), make([]int, n), make([]conn.Endpoint, n)
			for i := range bufs {
				bufs[i] = make([]byte, 65535)
			}
			for {
				n, err := fn(bufs, sizes, eps)
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("receive: %v", err)
					}
					return
				}
				some := false
				for i := range n {
					if sizes[i] > 0 {
						some = true
						out <- packet{bytes.Clone(bufs[i][:sizes[i]]), eps[i]}
					}
				}
				if !some {
					t.Error("a batch without anything for WireGuard was returned")
				}
			}
		}()
	}
	t.Cleanup(func() {
		b.Close()
		for range out {
		}
	})
	return out
}

func next(t *testing.T, ch <-chan packet) packet {
	t.Helper()
	select {
	case p, ok := <-ch:
		if !ok {
			t.Fatal("the socket is closed")
		}
		return p
	case <-time.After(10 * time.Second):
		t.Fatal("nothing arrived")
	}
	return packet{}
}

func loopback(b *Bind, v6 bool) netip.AddrPort {
	if v6 {
		return netip.AddrPortFrom(netip.IPv6Loopback(), b.Port())
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), b.Port())
}

func TestBothFamiliesOnOnePort(t *testing.T) {
	a, b := New(Config{}), New(Config{})
	reading(t, a)
	in := reading(t, b)
	for _, v6 := range []bool{false, true} {
		if v6 {
			need.IPv6(t)
		}
		peer := newPeer() // to one and the same the first packet might go by the second path, too
		setPath(a, peer, loopback(b, v6))
		if err := a.Send([][]byte{transport(7)}, peerEndpoint(t, a, peer)); err != nil {
			t.Fatal(err)
		}
		if p := next(t, in); !bytes.Equal(p.data, transport(7)) || p.from.DstToString() != loopback(a, v6).String() {
			t.Errorf("got %d bytes from %s", len(p.data), p.from.DstToString())
		}
		if got := a.Activity(peer); got.TxBytes != 64 || time.Since(got.LastSent) > time.Minute {
			t.Errorf("activity %+v", got)
		}
	}
}

func TestSortsWhatArrives(t *testing.T) {
	const rounds = 300
	stun := make(chan netip.AddrPort, rounds)
	b := New(Config{OnSTUN: func(pkt []byte, from netip.AddrPort) {
		if bytes.Equal(pkt, stunMessage(8)) {
			stun <- from
		}
	}})
	in := reading(t, b)
	c, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(loopback(b, false)))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	from := c.LocalAddr().(*net.UDPAddr).AddrPort()
	peer := newPeer()
	setPath(b, peer, from)
	for i := range rounds {
		for _, pkt := range [][]byte{stunMessage(8), {1}, bytes.Repeat([]byte{0xC1}, 100), bytes.Repeat([]byte{0x55}, 1400), transport(byte(i))} {
			if _, err := c.Write(pkt); err != nil {
				t.Fatal(err)
			}
		}
		if p := next(t, in); !bytes.Equal(p.data, transport(byte(i))) {
			t.Fatalf("round %d: got % x", i, p.data[:4])
		}
		select {
		case got := <-stun:
			if got != from {
				t.Fatalf("STUN from %s, want %s", got, from)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("STUN was lost")
		}
	}
	s := b.Stats()
	if s.WireGuard != rounds || s.STUN != rounds || s.DroppedRelay != rounds || s.DroppedGarbage != 2*rounds {
		t.Errorf("counters %+v", s)
	}
	got := b.Activity(peer)
	if got.RxBytes != rounds*64 || time.Since(got.LastReceived) > time.Minute {
		t.Errorf("activity %+v", got)
	}
}

func TestForeignSourceIsNotThePeers(t *testing.T) {
	a, b := New(Config{}), New(Config{})
	reading(t, a)
	in := reading(t, b)
	peer := newPeer()
	setPath(b, peer, here) // not where a is
	plain, err := a.ParseEndpoint(loopback(b, false).String())
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Send([][]byte{transport(1)}, plain); err != nil {
		t.Fatal(err)
	}
	next(t, in)
	if got := b.Activity(peer); got.RxBytes != 0 || !got.LastReceived.IsZero() {
		t.Errorf("activity from a foreign source: %+v", got)
	}
}

func TestSTUNFromTheSamePort(t *testing.T) {
	from := make(chan netip.AddrPort, 1)
	a := New(Config{})
	b := New(Config{OnSTUN: func(_ []byte, f netip.AddrPort) { from <- f }})
	reading(t, a)
	reading(t, b)
	mapped := netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1"), b.Port())
	if err := a.WriteSTUN(stunMessage(20), mapped); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-from:
		if got != loopback(a, false) {
			t.Errorf("from %s, want %s", got, loopback(a, false))
		}
	case <-time.After(10 * time.Second):
		t.Fatal("nothing arrived")
	}
	if err := a.WriteSTUN(stunMessage(0), netip.AddrPort{}); err == nil {
		t.Error("sent to nowhere")
	}
}

func TestPortInUse(t *testing.T) {
	a := New(Config{})
	reading(t, a)
	b := New(Config{Port: a.Port()})
	_, _, err := b.Open(0)
	var portErr *PortError
	if !errors.As(err, &portErr) || !errors.Is(err, syscall.EADDRINUSE) || portErr.Port != a.Port() {
		t.Fatalf("error %v", err)
	}
	if !strings.Contains(err.Error(), "in use: choose another") {
		t.Errorf("message %q", err)
	}
	b.SetPort(0)
	reading(t, b)
}

func TestReopenKeepsPortAndPaths(t *testing.T) {
	a, b := New(Config{}), New(Config{})
	in := reading(t, b)
	fns, port, err := a.Open(0)
	if err != nil || len(fns) == 0 {
		t.Fatal(err)
	}
	if _, _, err := a.Open(0); !errors.Is(err, conn.ErrBindAlreadyOpen) {
		t.Errorf("opened twice: %v", err)
	}
	peer := newPeer()
	setPath(a, peer, loopback(b, false))
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	reading(t, a)
	if a.Port() != port {
		t.Errorf("port %d, was %d", a.Port(), port)
	}
	if err := a.Send([][]byte{transport(1)}, peerEndpoint(t, a, peer)); err != nil {
		t.Fatal(err)
	}
	next(t, in)
}

func TestReadErrorsDoNotEndReading(t *testing.T) {
	calls := 0
	f := &fakeSocket{onReceive: func(bufs [][]byte, sizes []int, eps []conn.Endpoint) (int, error) {
		calls++
		switch {
		case calls <= 4:
			return 0, os.NewSyscallError("recvmmsg", syscall.ENOMEM)
		case calls == 5:
			sizes[0] = copy(bufs[0], transport(1))
			eps[0] = &conn.StdNetEndpoint{AddrPort: here}
			return 1, nil
		}
		return 0, syscall.ENOMEM
	}}
	b := newBind(Config{}, f)
	fns, _, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	bufs, sizes, eps := [][]byte{make([]byte, 100)}, make([]int, 1), make([]conn.Endpoint, 1)
	if n, err := fns[0](bufs, sizes, eps); n != 1 || err != nil {
		t.Fatalf("%d packets, %v", n, err)
	}
	if got := b.Stats().ReceiveErrors; got != 4 {
		t.Errorf("%d errors counted", got)
	}
	ended := make(chan error)
	go func() {
		_, err := fns[0](bufs, sizes, eps)
		ended <- err
	}()
	b.Close()
	if err := <-ended; !errors.Is(err, net.ErrClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestSortingAllocatesNothing(t *testing.T) {
	peer := newPeer()
	heard := 0
	b := newBind(Config{OnHeard: func(p key.Public) {
		if p == peer {
			heard++
		}
	}}, &fakeSocket{})
	setPath(b, peer, here)
	r := &receiver{bind: b}
	const n = 128
	bufs, sizes, eps := make([][]byte, n), make([]int, n), make([]conn.Endpoint, n)
	for i := range bufs {
		bufs[i] = transport(1)
		if i%5 == 0 {
			bufs[i] = stunMessage(0)
		}
		eps[i] = &conn.StdNetEndpoint{AddrPort: here}
	}
	if got := testing.AllocsPerRun(100, func() {
		for i := range sizes {
			sizes[i] = len(bufs[i])
		}
		r.sort(bufs, sizes, eps)
	}); got != 0 {
		t.Errorf("%v allocations per batch", got)
	}
	if batches := int(b.Stats().WireGuard) / 102; heard != batches {
		t.Errorf("heard of the peer %d times in %d batches", heard, batches)
	}
}
