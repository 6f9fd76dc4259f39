package netstack_test

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"golang.zx2c4.com/wireguard/tun"

	"nexd/netstack/netstacktest"
)

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
