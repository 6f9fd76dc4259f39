package bind

import (
	"bytes"
	"net"
	"net/netip"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"

	"nexd/test/need"
)

// What the system refuses of a batch costs that alone: what was before it
// leaves once, what is behind it leaves as well.
func TestRefusedInTheMidstOfABatch(t *testing.T) {
	for name, c := range map[string]struct {
		errno syscall.Errno
		lost  int // of the three packets in the message that is refused
	}{
		"by a firewall":      {unix.EPERM, 3},
		"for want of memory": {unix.ENOBUFS, 3},
		"for their size":     {unix.EINVAL, 0}, // they go one by one then
	} {
		t.Run(name, func(t *testing.T) {
			refuses := false
			k := linux
			k.send = func(fd uintptr, m *unix.Mmsghdr, n int) (int, syscall.Errno) {
				if !refuses || n == 0 || m.Hdr.Control == nil {
					return linux.send(fd, m, n)
				}
				if m.Hdr.Iov.Len == 1200 {
					return 0, c.errno
				}
				return linux.send(fd, m, 1)
			}
			in, _ := inSandbox(k)
			out, _ := inSandbox(linux)
			a := newBind(Config{}, in)
			if _, _, err := a.Open(0); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { a.Close() })
			if !batchedOf(t, in).cuts.Load() {
				need.Missing(t, "a kernel that cuts datagrams")
			}
			got, port := drain(t, out)
			peer := newPeer()
			ep := peerEndpoint(t, a, peer)
			there := netip.AddrPortFrom(local(false, port).AddrPort.Addr(), port)
			setPath(a, peer, there)

			sizes := []int{1000, 1000, 1000, 1200, 1200, 1200, 1400, 1400, 1400}
			arrive := func(sent [][]byte) {
				t.Helper()
				for i, want := range sent {
					if p := next(t, got); !bytes.Equal(p.data, want) {
						t.Fatalf("packet %d: %d bytes, want %d", i, len(p.data), len(want))
					}
				}
			}
			send := map[string]func([][]byte) error{
				"to a peer":  func(bufs [][]byte) error { return a.Send(bufs, ep) },
				"to a relay": func(bufs [][]byte) error { return a.WriteUDP(bufs, there) },
			}
			for to, do := range send {
				refuses = false
				sent := tagged(sizes...)
				if err := do(sent); err != nil { // now it is known that the kernel cuts
					t.Fatal(err)
				}
				arrive(sent)
				refuses = true
				before := a.Stats()
				if err := do(sent); err != nil {
					t.Errorf("%s: %v", to, err)
				}
				left := append(append([][]byte{}, sent[:3]...), append(append([][]byte{}, sent[3+c.lost:6]...), sent[6:]...)...)
				end := []byte("the end")
				if err := a.Send([][]byte{end}, &conn.StdNetEndpoint{AddrPort: there}); err != nil {
					t.Fatal(err)
				}
				arrive(append(left, end))
				now, n := a.Stats(), uint64(c.lost)
				if lost := now.SendErrors.Denied + now.SendErrors.Full - before.SendErrors.Denied - before.SendErrors.Full; lost != n {
					t.Errorf("%s: %d packets counted as lost, want %d", to, lost, n)
				}
			}
			if sent := a.Activity(peer); sent.LastSent.IsZero() {
				t.Error("nothing is said to have left")
			}
		})
	}
}

// What no packet to an address can reach is asked once.
func TestUnreachableIsAskedOnce(t *testing.T) {
	calls := 0
	k := linux
	k.send = func(fd uintptr, m *unix.Mmsghdr, n int) (int, syscall.Errno) {
		if n > 0 {
			calls++
			return 0, unix.ENETUNREACH
		}
		return linux.send(fd, m, n)
	}
	in, _ := inSandbox(k)
	a := newBind(Config{}, in)
	if _, _, err := a.Open(0); err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	if err := a.Send(tagged(1400, 1500, 1600, 1700), &conn.StdNetEndpoint{AddrPort: netip.AddrPortFrom(netip.AddrFrom4([4]byte(net.IPv4(192, 0, 2, 1).To4())), 9)}); err != nil {
		t.Fatal(err)
	}
	if calls != 1 || a.Stats().SendErrors.Unreachable != 4 {
		t.Errorf("%d calls, %+v", calls, a.Stats().SendErrors)
	}
}
