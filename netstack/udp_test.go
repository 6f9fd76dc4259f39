package netstack_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nexd/netstack"
	"nexd/netstack/netstacktest"
)

func listenUDP(t testing.TB, s *netstack.Stack, addr netip.Addr) (*netstack.PacketConn, netip.AddrPort) {
	t.Helper()
	pc, err := s.ListenUDP(netip.AddrPortFrom(addr, 0))
	must(t, err)
	t.Cleanup(func() { pc.Close() })
	pc.SetDeadline(time.Now().Add(patience))
	return pc.(*netstack.PacketConn), netip.AddrPortFrom(addr, uint16(pc.LocalAddr().(*net.UDPAddr).Port))
}

func dialUDP(t testing.TB, s *netstack.Stack, to netip.AddrPort) *netstack.PacketConn {
	t.Helper()
	c, err := s.DialUDP(to)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*netstack.PacketConn)
}

// Fragments are numbered with 16 bits: those of a datagram of which one was lost
// may meet those of another. What comes of that is not delivered.
func TestFragmentsOfTwoDatagrams(t *testing.T) {
	lost := false
	a, b := netstacktest.PairWith(t, netstacktest.Options{Hook: func(packet []byte, fromA bool) bool {
		ip := header.IPv4(packet)
		if !fromA || !ip.More() && ip.FragmentOffset() == 0 {
			return true
		}
		ip.SetID(7)
		ip.SetChecksum(0)
		ip.SetChecksum(^ip.CalculateChecksum())
		if ip.FragmentOffset() > 0 && !lost {
			lost = true
			return false
		}
		return true
	}})
	server, at := listenUDP(t, b, netstacktest.B4)
	client := dialUDP(t, a, at)
	for _, letter := range []string{"a", "b", "c", "d"} {
		must(t, write(client, strings.Repeat(letter, 2000)))
	}
	buf := make([]byte, 4000)
	for {
		n, _, err := server.ReadFrom(buf)
		must(t, err)
		if got := string(buf[:n]); got != strings.Repeat(got[:1], 2000) {
			t.Fatalf("%d bytes of which %d are another's", n, n-strings.Count(got, got[:1]))
		} else if got[0] == 'd' {
			return
		}
	}
}

func TestDatagramSizes(t *testing.T) {
	for _, f := range families {
		for _, mtu := range []int{1280, 1420, 65535} {
			t.Run(fmt.Sprint(f.name, " MTU ", mtu), func(t *testing.T) {
				a, b := netstacktest.PairWith(t, netstacktest.Options{MTU: mtu})
				server, at := listenUDP(t, b, f.b)
				client := dialUDP(t, a, at)
				buf := make([]byte, 70_000)
				for _, size := range []int{0, 1, 1232, 1233, 1392, 1393, 1472, 9000, 65507} {
					data := make([]byte, size)
					rand.NewChaCha8([32]byte{}).Read(data)
					if n, err := client.Write(data); n != size || err != nil {
						t.Fatalf("write %d: %d, %v", size, n, err)
					}
					n, from, err := server.ReadFrom(buf)
					if err != nil || !bytes.Equal(buf[:n], data) {
						t.Fatalf("%d bytes came as %d: %v", size, n, err)
					}
					if n, err := server.WriteTo(data, from); n != size || err != nil {
						t.Fatalf("answer %d: %d, %v", size, n, err)
					}
					if n, err = client.Read(buf); err != nil || !bytes.Equal(buf[:n], data) {
						t.Fatalf("answer of %d bytes came as %d: %v", size, n, err)
					}
				}
				for _, size := range []int{65528, 100_000} {
					if _, err := client.Write(make([]byte, size)); !errors.Is(err, syscall.EMSGSIZE) {
						t.Errorf("%d bytes: %v", size, err)
					}
				}
			})
		}
	}
}

func TestDatagramTruncated(t *testing.T) {
	a, b := netstacktest.Pair(t)
	server, at := listenUDP(t, b, netstacktest.B4)
	client := dialUDP(t, a, at)
	must(t, write(client, "12345678"))
	must(t, write(client, "next"))
	buf := make([]byte, 4)
	for _, want := range []string{"1234", "next"} {
		if n, _, err := server.ReadFrom(buf); err != nil || string(buf[:n]) != want {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
}

func TestUDPRefused(t *testing.T) {
	a, _ := netstacktest.Pair(t)
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			client := dialUDP(t, a, netip.AddrPortFrom(f.b, 9))
			must(t, write(client, "anybody?"))
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("%v", err)
			}
			must(t, client.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
			if _, err := client.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the error is told twice: %v", err)
			}
		})
	}
}

func TestUDPErrors(t *testing.T) {
	a, b := netstacktest.Pair(t)
	server, at := listenUDP(t, b, netstacktest.B4)
	client := dialUDP(t, a, at)
	if _, err := b.ListenUDP(at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a taken port: %v", err)
	}
	if _, err := b.ListenUDP(netip.AddrPortFrom(netstacktest.A4, 1)); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("another's address: %v", err)
	}
	if _, err := client.WriteTo([]byte("x"), server.LocalAddr()); !errors.Is(err, net.ErrWriteToConnected) {
		t.Errorf("WriteTo when connected: %v", err)
	}
	if _, err := server.Write([]byte("x")); !errors.Is(err, syscall.EDESTADDRREQ) {
		t.Errorf("Write when not connected: %v", err)
	}
	if _, err := server.WriteTo([]byte("x"), &net.TCPAddr{}); !errors.Is(err, syscall.EINVAL) {
		t.Errorf("a foreign address: %v", err)
	}
	if _, err := netstacktest.Stack(t, 0).DialUDP(at); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("dial without an address: %v", err)
	}
}

func TestUDPClose(t *testing.T) {
	_, b := netstacktest.Pair(t)
	server, _ := listenUDP(t, b, netstacktest.B6)
	blocked := make(chan error, 2)
	for range 2 {
		go func() { _, _, err := server.ReadFrom(make([]byte, 1)); blocked <- err }()
	}
	must(t, server.Close())
	for range 2 {
		if err := <-blocked; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%v", err)
		}
	}
	if _, err := server.WriteTo(nil, &net.UDPAddr{IP: net.IPv4(100, 64, 0, 1), Port: 1}); !errors.Is(err, net.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// Nobody reads: what does not fit, in packets or in bytes, is dropped and
// counted, and the socket works afterwards.
func TestUDPFlood(t *testing.T) {
	for _, test := range [][2]int{{0, 3000}, {60_000, 300}} {
		size, sent := test[0], test[1]
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			a, b := netstacktest.Pair(t)
			server, at := listenUDP(t, b, netstacktest.B4)
			client := dialUDP(t, a, at)
			for range sent {
				must(t, write(client, string(make([]byte, size))))
			}
			a.Flush(testContext(t))
			for a.Stats().TxPackets != b.Stats().RxPackets {
				waitABit(t)
			}
			dropped := int(b.Stats().UDPFull)
			server.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			got := 0
			for {
				if _, _, err := server.ReadFrom(make([]byte, size)); err != nil {
					break
				}
				got++
			}
			if got == 0 || got > 1024 || size*got > 2<<20 || dropped == 0 {
				t.Errorf("%d sent, %d kept, %d dropped", sent, got, dropped)
			}
			server.SetReadDeadline(time.Now().Add(patience))
			must(t, write(client, "after"))
			if _, _, err := server.ReadFrom(make([]byte, 10)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPing(t *testing.T) {
	a, b := netstacktest.Pair(t)
	for _, f := range families {
		if rtt, err := a.Ping(testContext(t), f.b); err != nil || rtt <= 0 || rtt > patience {
			t.Errorf("%s: %v, %v", f.name, rtt, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		if _, err := a.Ping(ctx, f.a.Next().Next().Next()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%s: nobody's address: %v", f.name, err)
		}
		cancel()
	}
	if _, err := netstacktest.Stack(t, 0).Ping(t.Context(), netstacktest.A4); !errors.Is(err, syscall.ENETUNREACH) {
		t.Errorf("without an address: %v", err)
	}
	must(t, b.SetAddresses(nil))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := a.Ping(ctx, netstacktest.B4); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a stack without addresses answers: %v", err)
	}
}

func TestPingThroughLoss(t *testing.T) {
	lost := 0
	a, _ := netstacktest.PairWith(t, netstacktest.Options{Hook: func(_ []byte, fromA bool) bool {
		if fromA && lost == 0 {
			lost++
			return false
		}
		return true
	}})
	if rtt, err := a.Ping(testContext(t), netstacktest.B4); err != nil || rtt > time.Second {
		t.Errorf("%v, %v", rtt, err)
	}
}

func TestUDPDualStack(t *testing.T) {
	a, b := netstacktest.Pair(t)
	server, at := listenUDP(t, b, netip.IPv6Unspecified())
	for _, f := range families {
		client := dialUDP(t, a, netip.AddrPortFrom(f.b, at.Port()))
		must(t, write(client, f.name))
		buf := make([]byte, 10)
		n, from, err := server.ReadFromAddrPort(buf)
		if err != nil || string(buf[:n]) != f.name || from.Addr() != f.a {
			t.Fatalf("%q from %v: %v", buf[:n], from, err)
		}
		if _, err := server.WriteToAddrPort([]byte("answer"), from); err != nil {
			t.Fatal(err)
		}
		if n, err := client.Read(buf); err != nil || string(buf[:n]) != "answer" {
			t.Fatalf("%q, %v", buf[:n], err)
		}
	}
}

// A socket whose address was taken away says so, to those who wait too, and
// does not come back with the address. Sockets on all addresses go on.
func TestUDPAddressGone(t *testing.T) {
	_, b := netstacktest.Pair(t)
	bound, at := listenUDP(t, b, netstacktest.B4)
	dialled := dialUDP(t, b, netip.AddrPortFrom(netstacktest.A4, 9))
	all, allAt := listenUDP(t, b, netip.IPv6Unspecified())
	const readers = 3
	failed := make(chan error, readers+1)
	for range readers {
		go func() { _, _, err := bound.ReadFrom(make([]byte, 1)); failed <- err }()
	}
	go func() { _, err := dialled.Read(make([]byte, 1)); failed <- err }()
	must(t, b.SetAddresses([]netip.Addr{netstacktest.B6}))
	must(t, b.SetAddresses([]netip.Addr{netstacktest.B4, netstacktest.B6}))
	for range readers + 1 {
		if err := <-failed; !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("blocked read: %v", err)
		}
	}
	if _, _, err := bound.ReadFrom(make([]byte, 1)); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("read: %v", err)
	}
	if _, err := dialled.Write([]byte("x")); !errors.Is(err, syscall.EADDRNOTAVAIL) {
		t.Errorf("write: %v", err)
	}
	must(t, bound.Close())
	if _, _, err := bound.ReadFrom(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("read after close: %v", err)
	}
	again, err := b.ListenUDP(at)
	must(t, err)
	defer again.Close()
	must(t, write(dialUDP(t, b, netip.AddrPortFrom(netstacktest.B4, allAt.Port())), "still here"))
	if n, _, err := all.ReadFrom(make([]byte, 100)); n != 10 || err != nil {
		t.Errorf("a socket on all addresses: %d, %v", n, err)
	}
}

func TestReceive(t *testing.T) {
	a, b := netstacktest.Pair(t)
	server, at := listenUDP(t, b, netstacktest.B6)
	client := dialUDP(t, a, at)
	for _, size := range []int{0, 1, 60_000} {
		must(t, write(client, string(bytes.Repeat([]byte("x"), size))))
		calls := 0
		must(t, server.Receive(func(data [][]byte, from []netip.AddrPort) {
			calls++
			if len(data) != 1 || len(data[0]) != size || from[0].String() != client.LocalAddr().String() {
				t.Errorf("%d datagrams from %v", len(data), from)
			}
		}))
		if calls != 1 {
			t.Errorf("taken %d times", calls)
		}
	}
	// Many that wait come together, whole and in order.
	const many = 200
	for i := range many {
		must(t, write(client, string(rune('a'+i%26))))
	}
	for got := 0; got < many; {
		must(t, server.Receive(func(data [][]byte, from []netip.AddrPort) {
			for i, p := range data {
				if want := string(rune('a' + got%26)); string(p) != want || from[i].String() != client.LocalAddr().String() {
					t.Fatalf("datagram %d: %q from %v, want %q", got, p, from[i], want)
				}
				got++
			}
		}))
	}
	must(t, server.SetReadDeadline(time.Now().Add(10*time.Millisecond)))
	err := server.Receive(func([][]byte, []netip.AddrPort) { t.Error("taken without a datagram") })
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
}
