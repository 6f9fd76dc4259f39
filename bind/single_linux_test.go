package bind

import (
	"log/slog"
	"net"
	"net/netip"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// A packet alone, as a handshake message is, does not take the room of a batch:
// many are sent at a time when many peers do not answer.
func TestSinglesAreSmall(t *testing.T) {
	const depth = 32 // sends under way at a time
	to, _ := udp(t)
	target := netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), portOf(to))
	one := [][]byte{make([]byte, sizeInitiation)}
	var before, within runtime.MemStats
	all := make([]carrier, depth)
	for i := range all {
		k := linux
		k.send = func(fd uintptr, m *unix.Mmsghdr, n int) (int, syscall.Errno) {
			switch {
			case n == 0:
			case i+1 < depth:
				if err := all[i+1].send(one, target); err != nil {
					t.Error(err)
				}
			default:
				runtime.ReadMemStats(&within)
			}
			return linux.send(fd, m, n)
		}
		c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		all[i] = newBatched(c, false, k, 1, slog.New(slog.DiscardHandler))
	}
	runtime.ReadMemStats(&before)
	if err := all[0].send(one, target); err != nil {
		t.Fatal(err)
	}
	if each := (within.TotalAlloc - before.TotalAlloc) / depth; each > 2<<10 {
		t.Errorf("%d bytes for each send of one packet", each)
	}
}
