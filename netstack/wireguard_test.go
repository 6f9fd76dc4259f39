package netstack_test

import (
	"fmt"
	"io"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

// Nothing is taken for lost where nothing is: gVisor's detection by time was seen
// to do so with large segments of which a part was acknowledged.
func TestNothingIsLost(t *testing.T) {
	a, b := overWireGuard(t, 0)
	for range 4 {
		before, timeouts, dropped := a.Recoveries(), a.Timeouts(), a.Stats().TxFull
		client, server := connect(t, a, b, netstacktest.B4)
		exchange(t, client, server, 12<<20)
		// A busy machine does not answer in time, or nobody reads, and something is lost.
		still := a.Timeouts() != timeouts || a.Stats().TxFull != dropped
		if lost := a.Recoveries() - before; lost > 0 && !still {
			t.Errorf("%d times something was taken for lost", lost)
		}
	}
}

// benchmarkStreams is bytes per second, and CPU seconds of the process per
// gigabyte, of so many streams together.
func benchmarkStreams(b *testing.B, from, to *netstack.Stack, streams int) {
	buf := make([]byte, 128<<10)
	b.SetBytes(int64(len(buf)))
	var wait sync.WaitGroup
	clients := make([]*netstack.Conn, streams)
	for i := range clients {
		client, server := connect(b, from, to, netstacktest.B4)
		clients[i] = client
		wait.Go(func() { io.Copy(io.Discard, struct{ io.Reader }{server}) })
	}
	var next atomic.Int64
	before := cpuTime(b)
	b.ResetTimer()
	total := int64(b.N)
	for _, client := range clients {
		wait.Go(func() {
			for next.Add(1) <= total {
				if _, err := client.Write(buf); err != nil {
					b.Error(err)
					return
				}
			}
			client.CloseWrite()
		})
	}
	wait.Wait()
	b.ReportMetric((cpuTime(b)-before).Seconds()/(float64(total)*float64(len(buf))/1e9), "CPU-s/GB")
}

// cpuTime is what the process has used.
func cpuTime(b *testing.B) time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		b.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}

func BenchmarkStream(b *testing.B) {
	for _, mtu := range []int{1280, 1420, 8920} {
		for _, streams := range []int{1, 8} {
			b.Run(fmt.Sprint("MTU ", mtu, ", streams ", streams), func(b *testing.B) {
				x, y := netstacktest.PairWith(b, netstacktest.Options{MTU: mtu})
				benchmarkStreams(b, x, y, streams)
			})
		}
	}
}

func BenchmarkStreamOverWireGuard(b *testing.B) {
	x, y := overWireGuard(b, 0)
	benchmarkStreams(b, x, y, 1)
}

func BenchmarkDatagrams(b *testing.B) {
	x, y := netstacktest.Pair(b)
	pc, at := listenUDP(b, y, netstacktest.B4)
	c := dialUDP(b, x, at)
	buf := make([]byte, 1200)
	b.SetBytes(int64(len(buf)))
	before := cpuTime(b)
	defer func() { b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N), "CPU-ns/op") }()
	for b.Loop() {
		if _, err := c.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, _, err := pc.ReadFromAddrPort(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPingPong is one byte there and one back on a connection.
func BenchmarkPingPong(b *testing.B) {
	x, y := netstacktest.Pair(b)
	client, server := connect(b, x, y, netstacktest.B4)
	var wait sync.WaitGroup
	wait.Go(func() { io.Copy(struct{ io.Writer }{server}, struct{ io.Reader }{server}) })
	buf := make([]byte, 1)
	before := cpuTime(b)
	defer func() { b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N), "CPU-ns/op") }()
	for b.Loop() {
		if _, err := client.Write(buf); err != nil {
			b.Fatal(err)
		}
		if _, err := client.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
	client.CloseWrite()
	wait.Wait()
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
	before := cpuTime(b)
	defer func() { b.ReportMetric(float64((cpuTime(b)-before).Nanoseconds())/float64(b.N), "CPU-ns/op") }()
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
