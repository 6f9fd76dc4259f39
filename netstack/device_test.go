package netstack_test

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/tun"
	"gvisor.dev/gvisor/pkg/tcpip/checksum"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nexd/netstack"
	"nexd/netstack/netstacktest"
)

// reader reads the device of a stack into a channel until it is closed.
func reader(t testing.TB, s *netstack.Stack) <-chan []byte {
	t.Helper()
	packets := make(chan []byte, 4096)
	var done sync.WaitGroup
	done.Go(func() {
		bufs, sizes := [][]byte{make([]byte, 65535)}, make([]int, 1)
		for {
			if _, err := s.Device().Read(bufs, sizes, 0); err != nil {
				return
			}
			packets <- append([]byte(nil), bufs[0][:sizes[0]]...)
		}
	})
	t.Cleanup(func() { s.Close(); done.Wait() })
	return packets
}

func inject(t testing.TB, s *netstack.Stack, packets ...[]byte) {
	t.Helper()
	if n, err := s.Device().Write(packets, 0); n != len(packets) || err != nil {
		t.Fatalf("write: %d, %v", n, err)
	}
}

func next(t testing.TB, packets <-chan []byte) []byte {
	t.Helper()
	select {
	case p := <-packets:
		return p
	case <-time.After(patience):
		t.Fatal("no packet came")
		return nil
	}
}

// packet4 builds an IPv4 packet without a transport checksum.
func packet4(from, to netip.Addr, protocol uint8, payload []byte) []byte {
	b := make([]byte, header.IPv4MinimumSize, header.IPv4MinimumSize+len(payload))
	b[0], b[8], b[9] = 0x45, 64, protocol
	binary.BigEndian.PutUint16(b[2:], uint16(cap(b)))
	copy(b[12:], from.AsSlice())
	copy(b[16:], to.AsSlice())
	binary.BigEndian.PutUint16(b[10:], ^checksum.Checksum(b, 0))
	return append(b, payload...)
}

func packet6(from, to netip.Addr, next uint8, payload []byte) []byte {
	b := make([]byte, header.IPv6MinimumSize, header.IPv6MinimumSize+len(payload))
	b[0], b[6], b[7] = 0x60, next, 255
	binary.BigEndian.PutUint16(b[4:], uint16(len(payload)))
	copy(b[8:], from.AsSlice())
	copy(b[24:], to.AsSlice())
	return append(b, payload...)
}

func syn(port, to uint16) []byte {
	b := make([]byte, header.TCPMinimumSize)
	binary.BigEndian.PutUint16(b[0:], port)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint32(b[4:], 1000)
	b[12], b[13] = 5<<4, byte(header.TCPFlagSyn)
	binary.BigEndian.PutUint16(b[14:], 65535)
	return b
}

func datagram(port, to uint16) []byte {
	b := make([]byte, header.UDPMinimumSize+4)
	binary.BigEndian.PutUint16(b[0:], port)
	binary.BigEndian.PutUint16(b[2:], to)
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)))
	return b
}

func TestOnlyDeclaredPortsAnswer(t *testing.T) {
	s := netstacktest.Stack(t, 0, netstacktest.A4, netstacktest.A6)
	packets := reader(t, s)

	inject(t, s, packet4(netstacktest.B4, netstacktest.A4, 6, syn(1, 80)))
	p := next(t, packets)
	if tcp := header.TCP(p[20:]); p[9] != 6 || tcp.Flags() != header.TCPFlagRst|header.TCPFlagAck {
		t.Errorf("SYN is answered by %x", p)
	}
	inject(t, s, packet4(netstacktest.B4, netstacktest.A4, 17, datagram(1, 80)))
	p = next(t, packets)
	if icmp := header.ICMPv4(p[20:]); p[9] != 1 || icmp.Type() != header.ICMPv4DstUnreachable || icmp.Code() != header.ICMPv4PortUnreachable {
		t.Errorf("datagram is answered by %x", p)
	}
	inject(t, s, packet6(netstacktest.B6, netstacktest.A6, 17, datagram(1, 80)))
	p = next(t, packets)
	if icmp := header.ICMPv6(p[40:]); p[6] != 58 || icmp.Type() != header.ICMPv6DstUnreachable || icmp.Code() != header.ICMPv6PortUnreachable {
		t.Errorf("datagram is answered by %x", p)
	}
}

// Nothing may come out of the stack, whatever goes in.
func TestSilence(t *testing.T) {
	all4 := netip.MustParseAddr("224.0.0.1")
	all6 := netip.MustParseAddr("ff02::1")
	other := netip.MustParseAddr("100.64.0.9")
	echo4 := []byte{8, 0, 0xf7, 0xff, 0, 0, 0, 0}
	// A router advertisement with a prefix to make addresses of.
	router := netip.MustParseAddr("fe80::1")
	advertisement := append([]byte{134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0},
		append([]byte{3, 4, 64, 0xc0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0x20, 1, 0xd, 0xb8}, make([]byte, 12)...)...)

	t.Run("without addresses", func(t *testing.T) {
		s := netstacktest.Stack(t, 0)
		packets := reader(t, s)
		l, _ := listen(t, s, netip.IPv6Unspecified())
		port := uint16(l.Addr().(*net.TCPAddr).Port)
		inject(t, s,
			packet4(netstacktest.B4, netstacktest.A4, 6, syn(1, port)),
			packet4(netstacktest.B4, netstacktest.A4, 1, echo4),
			packet4(netstacktest.B4, all4, 1, echo4),
			packet6(netstacktest.B6, all6, 58, []byte{128, 0, 0, 0, 0, 0, 0, 0}),
		)
		must(t, s.SetAddresses([]netip.Addr{netstacktest.A4}))
		inject(t, s, packet4(netstacktest.B4, netstacktest.A4, 6, syn(2, port)))
		if p := next(t, packets); header.TCP(p[20:]).DestinationPort() != 2 {
			t.Errorf("an answer without an address: %x", p)
		}
	})
	t.Run("to others and from oneself", func(t *testing.T) {
		s := netstacktest.Stack(t, 0, netstacktest.A4, netstacktest.A6)
		packets := reader(t, s)
		l, _ := listen(t, s, netip.IPv6Unspecified())
		port := uint16(l.Addr().(*net.TCPAddr).Port)
		inject(t, s,
			packet4(netstacktest.B4, other, 6, syn(1, port)),
			packet4(netstacktest.B4, other, 1, echo4),
			packet4(netstacktest.A4, netstacktest.A4, 6, syn(1, port)),
			packet4(all4, netstacktest.A4, 1, echo4),
			packet4(netstacktest.B4, all4, 1, echo4),
			packet6(router, all6, 58, advertisement),
			packet6(router, netstacktest.A6, 58, advertisement),
		)
		inject(t, s, packet4(netstacktest.B4, netstacktest.A4, 6, syn(2, port)))
		if p := next(t, packets); p[9] != 6 || header.TCP(p[20:]).DestinationPort() != 2 {
			t.Errorf("an answer: %x", p)
		}
		if stats := s.Stats(); stats.RxForeign != 4 || stats.RxMalformed != 0 {
			t.Errorf("%+v", stats)
		}
	})
}

func TestSYNFlood(t *testing.T) {
	s, b := netstacktest.Pair(t)
	l, at := listen(t, s, netstacktest.A4)
	for i := range 10_000 {
		from := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		inject(t, s, packet4(from, netstacktest.A4, 6, syn(uint16(i), at.Port())))
	}
	client, err := b.DialTCP(testContext(t), at)
	must(t, err)
	defer client.Close()
	must(t, write(client, "through"))
	server, err := l.Accept()
	must(t, err)
	defer server.Close()
	buf := make([]byte, 7)
	if _, err := io.ReadFull(server, buf); err != nil || string(buf) != "through" {
		t.Errorf("%q, %v", buf, err)
	}
	if n := s.Endpoints(); n > 2000 {
		t.Errorf("%d endpoints", n)
	}
}

func TestReadTakesBatches(t *testing.T) {
	s := netstacktest.Stack(t, 0, netstacktest.A4)
	c := dialUDP(t, s, netip.AddrPortFrom(netstacktest.B4, 9))
	for range 200 {
		must(t, write(c, string(make([]byte, 100))))
	}
	d := s.Device()
	bufs, sizes := make([][]byte, 128), make([]int, 128)
	for i := range bufs {
		bufs[i] = make([]byte, 2048)
	}
	const offset = 16
	for _, want := range []int{128, 72} {
		n, err := d.Read(bufs, sizes, offset)
		if n != want || err != nil {
			t.Fatalf("read %d packets, %v; want %d", n, err, want)
		}
		for i := range n {
			if sizes[i] != 128 || bufs[i][offset]>>4 != 4 || bufs[i][0] != 0 {
				t.Fatalf("packet %d: size %d, %x", i, sizes[i], bufs[i][:40])
			}
		}
	}
	// A batch is at most one UDP segmentation write.
	for range 100 {
		must(t, write(c, string(make([]byte, 1392-28))))
	}
	if n, _ := d.Read(bufs, sizes, offset); n != 45 {
		t.Errorf("%d packets of 1392 bytes in a batch", n)
	}
	// Buffers that are too small lose packets, not the device.
	small := [][]byte{make([]byte, 100)}
	go d.Close()
	if _, err := d.Read(small, sizes, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("%v", err)
	}
}

// Without a reader everything is dropped sooner or later; nobody hangs.
func TestNobodyReads(t *testing.T) {
	s := netstacktest.Stack(t, 0, netstacktest.A4)
	for range 10_000 {
		inject(t, s, packet4(netstacktest.B4, netstacktest.A4, 6, syn(1, 80)))
	}
	if stats := s.Stats(); stats.TxFull == 0 {
		t.Errorf("%+v", stats)
	}
	c := dialUDP(t, s, netip.AddrPortFrom(netstacktest.B4, 9))
	for range 1000 {
		must(t, write(c, "x"))
	}
}

func TestDeviceClose(t *testing.T) {
	s := netstacktest.Stack(t, 0, netstacktest.A4)
	d := s.Device()
	if event := <-d.Events(); event != tun.EventUp {
		t.Errorf("event %v", event)
	}
	if name, err := d.Name(); name == "" || err != nil || d.File() != nil || d.BatchSize() != 128 {
		t.Error("device properties")
	}
	read := make(chan error)
	go func() {
		_, err := d.Read([][]byte{make([]byte, 2000)}, make([]int, 1), 0)
		read <- err
	}()
	must(t, d.Close())
	must(t, d.Close())
	if err := <-read; !errors.Is(err, os.ErrClosed) {
		t.Errorf("read: %v", err)
	}
	if _, err := d.Write([][]byte{make([]byte, 20)}, 0); !errors.Is(err, os.ErrClosed) {
		t.Errorf("write: %v", err)
	}
	if _, open := <-d.Events(); open {
		t.Error("events are open")
	}
	c := dialUDP(t, s, netip.AddrPortFrom(netstacktest.B4, 9))
	c.Write([]byte("nowhere"))
	must(t, s.Close())
	must(t, s.Close())
}

func TestCloseUnderLoad(t *testing.T) {
	for _, what := range []string{"stack", "device"} {
		t.Run(what, func(t *testing.T) {
			a, b := netstacktest.Pair(t)
			l, at := listen(t, b, netstacktest.B4)
			pc, udp := listenUDP(t, b, netstacktest.B6)
			var wait sync.WaitGroup
			wait.Go(func() {
				for {
					c, err := l.Accept()
					if err != nil {
						if !errors.Is(err, net.ErrClosed) {
							t.Error(err)
						}
						return
					}
					wait.Go(func() { io.Copy(c, c); c.Close() })
				}
			})
			wait.Go(func() {
				for buf := make([]byte, 2000); ; {
					if _, _, err := pc.ReadFrom(buf); err != nil {
						return
					}
				}
			})
			var moved atomic.Int64
			for range 8 {
				c, err := a.DialTCP(testContext(t), at)
				must(t, err)
				wait.Go(func() {
					for n, err := 0, error(nil); err == nil; moved.Add(int64(n)) {
						n, err = c.Write(make([]byte, 100_000))
					}
				})
				wait.Go(func() { io.Copy(io.Discard, c); c.Close() })
			}
			u := dialUDP(t, a, udp)
			wait.Go(func() {
				for err := error(nil); err == nil; {
					_, err = u.Write(make([]byte, 1000))
				}
			})
			wait.Go(func() {
				for err := error(nil); err == nil; {
					_, err = a.Ping(t.Context(), netstacktest.B4)
				}
			})
			wait.Go(func() { // dials that race with the end
				for {
					c, err := a.DialTCP(t.Context(), at)
					if err != nil {
						return
					}
					c.Reset()
				}
			})
			for moved.Load() < 4<<20 {
				waitABit(t)
			}
			if what == "device" {
				must(t, a.Device().Close())
				must(t, b.Device().Close())
			}
			must(t, a.Close())
			must(t, b.Close())
			wait.Wait()
			if _, err := a.DialTCP(t.Context(), at); !errors.Is(err, net.ErrClosed) {
				t.Errorf("dial after close: %v", err)
			}
			if _, err := a.ListenTCP(at); !errors.Is(err, net.ErrClosed) {
				t.Errorf("listen after close: %v", err)
			}
			if _, err := a.ListenUDP(at); !errors.Is(err, net.ErrClosed) {
				t.Errorf("listen after close: %v", err)
			}
			if err := a.SetAddresses(nil); !errors.Is(err, net.ErrClosed) {
				t.Errorf("addresses after close: %v", err)
			}
		})
	}
}

// waitABit yields while another goroutine makes progress.
func waitABit(t testing.TB) {
	select {
	case <-time.After(time.Millisecond):
	case <-t.Context().Done():
		t.Fatal(t.Context().Err())
	}
}

func TestAddressesChangeUnderLoad(t *testing.T) {
	a, b := netstacktest.Pair(t)
	extra := netip.MustParseAddr("100.64.0.77")
	must(t, b.SetAddresses([]netip.Addr{netstacktest.B4, extra, netstacktest.B6}))
	kept, keptServer := connect(t, a, b, netstacktest.B4)
	lost, lostServer := connect(t, a, b, extra)
	l, at := listen(t, b, extra)

	done := make(chan struct{})
	go func() {
		defer close(done)
		exchange(t, kept, keptServer, 4<<20)
	}()
	for range 50 {
		must(t, b.SetAddresses([]netip.Addr{netstacktest.B4}))
		must(t, b.SetAddresses([]netip.Addr{extra, netstacktest.B4, netstacktest.B6, extra}))
	}
	<-done
	if got := b.Addresses(); len(got) != 3 {
		t.Errorf("addresses: %v", got)
	}
	for _, c := range []*netstack.Conn{lost, lostServer} {
		var op *net.OpError
		if _, err := c.Read(make([]byte, 1)); !errors.As(err, &op) || op.Timeout() {
			t.Errorf("connection on an address that went: %v", err)
		}
	}
	// The listener is there again with its address.
	c, err := a.DialTCP(testContext(t), at)
	must(t, err)
	c.Close()
	if s, err := l.Accept(); err == nil {
		s.Close()
	}
	for _, wrong := range []string{"127.0.0.1", "224.0.0.1", "::", "0.0.0.0", "255.255.255.255"} {
		if err := b.SetAddresses([]netip.Addr{netip.MustParseAddr(wrong)}); err == nil {
			t.Errorf("%s is accepted", wrong)
		}
	}
	if got := b.Addresses(); len(got) != 3 {
		t.Errorf("a refused change changed the addresses: %v", got)
	}
}

func TestLinkLocal(t *testing.T) {
	la, lb := netip.MustParseAddr("fe80::a"), netip.MustParseAddr("fe80::b")
	a, b := netstacktest.Stack(t, 0, netstacktest.A4, la), netstacktest.Stack(t, 0, lb)
	netstacktest.Join(t, a.Device(), b.Device(), netstacktest.Options{})
	client, server := connect(t, a, b, lb)
	exchange(t, client, server, 100_000)
	pc, at := listenUDP(t, b, lb)
	must(t, write(dialUDP(t, a, at), "hello"))
	_, from, err := pc.ReadFrom(make([]byte, 10))
	must(t, err)
	if _, err := pc.WriteTo([]byte("hello"), from); err != nil {
		t.Error(err)
	}
	if _, err := a.Ping(context.Background(), lb); err != nil {
		t.Error(err)
	}
}

func FuzzWrite(f *testing.F) {
	f.Add(packet4(netstacktest.B4, netstacktest.A4, 6, syn(1, 80)))
	f.Add(packet4(netstacktest.B4, netstacktest.A4, 17, datagram(1, 53)))
	f.Add(packet6(netstacktest.B6, netstacktest.A6, 6, syn(1, 80)))
	f.Add(packet6(netstacktest.B6, netstacktest.A6, 44, make([]byte, 40)))
	f.Add(packet4(netstacktest.B4, netstacktest.A4, 1, []byte{3, 3, 0, 0, 0, 0, 0, 0, 0x45}))
	f.Add(packet6(netstacktest.B6, netstacktest.A6, 58, []byte{2, 0, 0, 0, 0, 0, 5, 0}))
	f.Add([]byte{0x45})
	f.Add([]byte{})
	s := netstacktest.Stack(f, 0, netstacktest.A4, netstacktest.A6)
	packets := reader(f, s)
	l, err := s.ListenTCP(netip.AddrPortFrom(netip.IPv6Unspecified(), 80))
	must(f, err)
	f.Cleanup(func() { l.Close() })
	f.Fuzz(func(t *testing.T, packet []byte) {
		original := append([]byte(nil), packet...)
		batch := [][]byte{packet, append(make([]byte, 16), packet...)}
		if n, err := s.Device().Write(batch[:1], 0); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if n, err := s.Device().Write(batch[1:], 16); n != 1 || err != nil {
			t.Fatal(n, err)
		}
		if string(original) != string(packet) {
			t.Fatal("the packet was changed")
		}
		for len(packets) > 0 {
			if p := <-packets; len(p) < 20 {
				t.Fatalf("the stack sent %x", p)
			}
		}
	})
}
