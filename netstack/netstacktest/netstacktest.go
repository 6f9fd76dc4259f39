// Package netstacktest joins stacks back to back, so that other packages can
// test over real TCP/IP without WireGuard.
//
//	a, b := netstacktest.Pair(t)        // 100.64.0.1, fd00::1 and 100.64.0.2, fd00::2
//	l, err := b.ListenTCP(netip.AddrPortFrom(netstacktest.B4, 80))
//	c, err := a.DialTCP(ctx, netip.AddrPortFrom(netstacktest.B4, 80))
//
// Hooks make the wire lose, reorder or show packets. Everything ends with the test.
package netstacktest

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"

	"golang.zx2c4.com/wireguard/tun"

	"nexd/netstack"
)

// Addresses of the two stacks of Pair.
var (
	A4 = netip.MustParseAddr("100.64.0.1")
	A6 = netip.MustParseAddr("fd00::1")
	B4 = netip.MustParseAddr("100.64.0.2")
	B6 = netip.MustParseAddr("fd00::2")
)

// Hook sees each packet on its way; fromA says from which side. It returns
// whether the packet goes on. It may change the packet but not keep it, and is
// called from one goroutine per direction.
type Hook func(packet []byte, fromA bool) bool

// Options change the wire between the stacks. The zero value is a perfect one.
type Options struct {
	MTU     int     // of both stacks; 0: their default
	Loss    float64 // share of packets lost, 0 to 1
	Reorder float64 // share of packets delivered after their successor
	Seed    uint64  // of the dice
	Hook    Hook    // sees every packet before the dice are thrown
}

// Pair makes two stacks with addresses, joined by a perfect wire.
func Pair(t testing.TB) (a, b *netstack.Stack) {
	t.Helper()
	return PairWith(t, Options{})
}

// PairWith is Pair with a chosen wire.
func PairWith(t testing.TB, o Options) (a, b *netstack.Stack) {
	t.Helper()
	a, b = Stack(t, o.MTU, A4, A6), Stack(t, o.MTU, B4, B6)
	Join(t, a.Device(), b.Device(), o)
	return a, b
}

// Stack makes one stack, closed at the end of the test.
func Stack(t testing.TB, mtu int, addresses ...netip.Addr) *netstack.Stack {
	t.Helper()
	s, err := netstack.New(netstack.Config{MTU: mtu})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	if err := s.SetAddresses(addresses); err != nil {
		t.Fatal(err)
	}
	return s
}

// Join carries packets between two devices until either is closed. The test
// waits for the wire at its end, and closes both devices for that.
func Join(t testing.TB, a, b tun.Device, o Options) {
	var wire sync.WaitGroup
	wire.Go(func() { carry(a, b, true, o) })
	wire.Go(func() { carry(b, a, false, o) })
	t.Cleanup(func() {
		a.Close()
		b.Close()
		wire.Wait()
	})
}

func carry(from, to tun.Device, fromA bool, o Options) {
	const size = 65535
	stream := uint64(1)
	if fromA {
		stream = 2
	}
	dice := rand.New(rand.NewPCG(o.Seed, stream))
	batch := from.BatchSize()
	bufs, sizes := make([][]byte, batch), make([]int, batch)
	for i := range bufs {
		bufs[i] = make([]byte, size)
	}
	out := make([][]byte, 0, batch)
	for {
		n, err := from.Read(bufs, sizes, 0)
		if err != nil {
			return
		}
		out = out[:0]
		for i := range n {
			packet := bufs[i][:sizes[i]]
			if o.Hook != nil && !o.Hook(packet, fromA) {
				continue
			}
			if o.Loss > 0 && dice.Float64() < o.Loss {
				continue
			}
			out = append(out, packet)
		}
		if o.Reorder > 0 {
			for i := 1; i < len(out); i++ {
				if dice.Float64() < o.Reorder {
					out[i-1], out[i] = out[i], out[i-1]
				}
			}
		}
		if _, err := to.Write(out, 0); err != nil {
			return
		}
	}
}
