package proxy

import (
	"bytes"
	"net"
	"net/netip"
	"testing"
	"time"
)

func udpSocket(t *testing.T) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback4, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c
}

// Datagrams that are sent and received together keep their bounds and order,
// whatever their sizes.
func TestHostSocketKeepsDatagramsApart(t *testing.T) {
	from, to := udpSocket(t), udpSocket(t)
	sender, receiver := newHostSocket(from), newHostSocket(to)
	at := clean(to.LocalAddr().(*net.UDPAddr).AddrPort())
	var sent [][]byte
	for i, size := range []int{1200, 1200, 1200, 700, 1200, 0, 0, 1, 1, 1, 9000, 9000, 65_507, 5, 4, 3} {
		sent = append(sent, bytes.Repeat([]byte{byte(i + 1)}, size))
	}
	for i := 0; i < len(sent); i += 8 { // less than a small receive buffer has room for
		part := sent[i:min(i+8, len(sent))]
		if n, err := sender.write(part, at, netip.Addr{}); n != len(part) || err != nil {
			t.Fatalf("sent %d of %d: %v", n, len(part), err)
		}
		for got := 0; got < len(part); {
			err := receiver.receive(func(m mail) {
				for k, p := range m.data {
					if want := part[got]; !bytes.Equal(p, want) {
						t.Fatalf("datagram %d: %d bytes, want %d", i+got, len(p), len(want))
					}
					if m.from[k] != clean(from.LocalAddr().(*net.UDPAddr).AddrPort()) || m.addressee(k).IsValid() {
						t.Errorf("from %v to %v", m.from[k], m.addressee(k))
					}
					got++
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// Who gets no intake gets copies, all that is there or one at a time.
func TestHostSocketWithoutAnIntake(t *testing.T) {
	defer lent.Store(lent.Swap(maxLent))
	from, to := udpSocket(t), udpSocket(t)
	sender, receiver := hostSocketOf(from), hostSocketOf(to)
	at := clean(to.LocalAddr().(*net.UDPAddr).AddrPort())
	sent := [][]byte{[]byte("one"), {}, bytes.Repeat([]byte("three"), 1000)}
	for _, test := range []struct{ before, most int }{{0, len(sent)}, {maxCopied, 1}} {
		copied.Store(int64(test.before))
		if n, err := sender.write(sent, at, netip.Addr{}); n != len(sent) || err != nil {
			t.Fatalf("%d, %v", n, err)
		}
		for got := 0; got < len(sent); {
			err := receiver.receive(func(m mail) {
				if len(m.data) > test.most || copied.Load() != int64(test.before)+sizeOf(m.data) {
					t.Errorf("%d datagrams at once, %d bytes copied", len(m.data), copied.Load())
				}
				in := intakes.Get().(*intake) // somebody else's datagrams come
				clear(in.space)
				intakes.Put(in)
				for i, p := range m.data {
					if !bytes.Equal(p, sent[got]) || m.from[i] != clean(from.LocalAddr().(*net.UDPAddr).AddrPort()) {
						t.Errorf("datagram %d: %d bytes of %v", got, len(p), m.from[i])
					}
					got++
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		if n := copied.Swap(0); n != int64(test.before) {
			t.Errorf("%d bytes left over", n)
		}
	}
	if n := lent.Load(); n != maxLent {
		t.Errorf("%d intakes lent", n)
	}
}

// A path that does not take datagrams of a size in one piece gets them one by one.
func TestHostSocketLearnsWhatCannotBeCut(t *testing.T) {
	from, to := udpSocket(t), udpSocket(t)
	sender := hostSocketOf(from)
	at := clean(to.LocalAddr().(*net.UDPAddr).AddrPort())
	// Loopback takes 65,536 bytes: no two datagrams of 40,000 go together, and so
	// the socket must not believe it could not cut smaller ones.
	big := [][]byte{make([]byte, 40_000), make([]byte, 40_000)}
	if n, err := sender.write(big, at, netip.Addr{}); n != 2 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if got := sender.largestCut(); got != maxDatagram {
		t.Errorf("cuts up to %d bytes only", got)
	}
	if err := from.Close(); err != nil {
		t.Fatal(err)
	}
	if n, err := sender.write(big, at, netip.Addr{}); n != 0 || err == nil {
		t.Errorf("a closed socket sent %d, %v", n, err)
	}
}

func TestTogether(t *testing.T) {
	sized := func(sizes ...int) (ps [][]byte) {
		for _, n := range sizes {
			ps = append(ps, make([]byte, n))
		}
		return ps
	}
	for _, test := range []struct {
		sizes         []int
		segment, want int
	}{
		{[]int{1200}, maxDatagram, 1},
		{[]int{1200, 1200, 1200}, maxDatagram, 3},
		{[]int{1200, 1200, 700, 700}, maxDatagram, 3}, // only the last one may be smaller
		{[]int{700, 1200}, maxDatagram, 1},
		{[]int{1200, 0, 1200}, maxDatagram, 1}, // an empty one cannot be part of anything
		{[]int{0, 0}, maxDatagram, 1},
		{[]int{1200, 1200}, 1199, 1},
		{[]int{40_000, 40_000}, maxDatagram, 1},
		{[]int{30_000, 30_000, 30_000}, maxDatagram, 2},
	} {
		if got := together(sized(test.sizes...), test.segment); got != test.want {
			t.Errorf("%v: %d, want %d", test.sizes, got, test.want)
		}
	}
}

// Control messages come from the kernel; whatever they are, none is read too far.
func FuzzDestination(f *testing.F) {
	f.Add(make([]byte, ctrlSize))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) > 0 {
			destination(b)
		}
	})
}
