package netstack_test

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"

	"golang.zx2c4.com/wireguard/conn/bindtest"
	"golang.zx2c4.com/wireguard/device"

	"nexd/key"
	"nexd/netstack"
	"nexd/netstack/netstacktest"
)

// overWireGuard joins two stacks through two real WireGuard devices.
func overWireGuard(t testing.TB, mtu int) (a, b *netstack.Stack) {
	t.Helper()
	a = netstacktest.Stack(t, mtu, netstacktest.A4, netstacktest.A6)
	b = netstacktest.Stack(t, mtu, netstacktest.B4, netstacktest.B6)
	binds := bindtest.NewChannelBinds()
	stacks := []*netstack.Stack{a, b}
	addresses := [][2]netip.Addr{{netstacktest.A4, netstacktest.A6}, {netstacktest.B4, netstacktest.B6}}
	endpoints := []string{"127.0.0.1:1", "127.0.0.1:2"}
	privates := [2]key.Private{key.NewPrivate(), key.NewPrivate()}
	for i := range stacks {
		d := device.NewDevice(stacks[i].Device(), binds[i], device.NewLogger(device.LogLevelError, fmt.Sprintf("device %d: ", i)))
		t.Cleanup(d.Close)
		must(t, d.IpcSet(fmt.Sprintf("private_key=%s\npublic_key=%s\nendpoint=%s\nallowed_ip=%s/32\nallowed_ip=%s/128\n",
			privates[i].RevealHex(), privates[1-i].Public().Hex(), endpoints[i], addresses[1-i][0], addresses[1-i][1])))
		must(t, d.Up())
	}
	return a, b
}

func TestOverWireGuard(t *testing.T) {
	a, b := overWireGuard(t, 0)
	for _, f := range families {
		_, err := a.Ping(testContext(t), f.b)
		must(t, err)
		client, server := connect(t, a, b, f.b)
		exchange(t, client, server, 4<<20)
		pc, at := listenUDP(t, b, f.b)
		c := dialUDP(t, a, at)
		for _, size := range []int{0, 1, 1400, 65507} {
			must(t, write(c, string(make([]byte, size))))
			if n, _, err := pc.ReadFrom(make([]byte, 65507)); n != size || err != nil {
				t.Errorf("%d bytes came as %d: %v", size, n, err)
			}
		}
	}
	if s := b.Stats(); s.RxMalformed != 0 || s.RxForeign != 0 {
		t.Errorf("%+v", s)
	}
}

// benchmarkStream is bytes per second of one stream.
func benchmarkStream(b *testing.B, from, to *netstack.Stack) {
	client, server := connect(b, from, to, netstacktest.B4)
	buf := make([]byte, 128<<10)
	b.SetBytes(int64(len(buf)))
	var wait sync.WaitGroup
	wait.Go(func() { drain(server) })
	b.ResetTimer()
	for b.Loop() {
		if _, err := client.Write(buf); err != nil {
			b.Fatal(err)
		}
	}
	client.CloseWrite()
	wait.Wait()
}

func BenchmarkStream(b *testing.B) {
	for _, mtu := range []int{1280, 1420, 8920} {
		b.Run(fmt.Sprint("MTU ", mtu), func(b *testing.B) {
			x, y := netstacktest.PairWith(b, netstacktest.Options{MTU: mtu})
			benchmarkStream(b, x, y)
		})
	}
}

func BenchmarkStreamOverWireGuard(b *testing.B) {
	x, y := overWireGuard(b, 0)
	benchmarkStream(b, x, y)
}

func BenchmarkDatagrams(b *testing.B) {
	x, y := netstacktest.Pair(b)
	pc, at := listenUDP(b, y, netstacktest.B4)
	c := dialUDP(b, x, at)
	buf := make([]byte, 1200)
	b.SetBytes(int64(len(buf)))
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, _, err := pc.ReadFromAddrPort(buf); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDial(b *testing.B) {
	x, y := netstacktest.Pair(b)
	l, at := listen(b, y, netstacktest.B4)
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	})
	for b.Loop() {
		c, err := x.DialTCP(b.Context(), at)
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
	l.Close()
	wait.Wait()
}
