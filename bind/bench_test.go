package bind

import (
	"net/netip"
	"testing"

	"golang.zx2c4.com/wireguard/conn"
)

// batch is what a socket returns: 128 packets from some addresses in turn.
func batch(from ...netip.AddrPort) (bufs [][]byte, sizes []int, eps []conn.Endpoint) {
	for i := range conn.IdealBatchSize {
		pkt := make([]byte, 1500)
		copy(pkt, transport(byte(i)))
		bufs = append(bufs, pkt)
		sizes = append(sizes, 1452)
		eps = append(eps, &conn.StdNetEndpoint{AddrPort: from[i%len(from)]})
	}
	return bufs, sizes, eps
}

// BenchmarkSort is what the bind adds to the receiving of a full batch.
func BenchmarkSort(b *testing.B) {
	b.Run("one peer", func(b *testing.B) { benchmarkSort(b, here) })
	b.Run("two peers", func(b *testing.B) { benchmarkSort(b, here, there) })
}

func benchmarkSort(b *testing.B, from ...netip.AddrPort) {
	bnd := newBind(Config{}, &fakeSocket{})
	for _, a := range from {
		setPath(bnd, newPeer(), a)
	}
	r := &receiver{bind: bnd}
	bufs, sizes, eps := batch(from...)
	b.ReportAllocs()
	for b.Loop() {
		if !r.sort(bufs, sizes, eps) {
			b.Fatal("nothing left")
		}
	}
}
