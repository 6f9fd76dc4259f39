package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"runtime/pprof"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"nexd/netstack/netstacktest"
	"nexd/proxy"
	"nexd/test/need"
)

func idleConns() int {
	if n, err := strconv.Atoi(os.Getenv("PROXY_CONNECTIONS")); err == nil {
		return n
	}
	return 1000
}

func TestIdleMemory(t *testing.T) {
	if testing.Short() {
		t.Skip("many connections take a while")
	}
	n := idleConns()
	a, b := netstacktest.Pair(t)
	near := &world{t: t, mesh: stackMesh{a}, own: addrs4(netstacktest.A4), other: addrs4(netstacktest.B4)}
	far := &world{t: t, mesh: stackMesh{b}, own: addrs4(netstacktest.B4), other: addrs4(netstacktest.A4)}
	near.start(time.Second)
	far.start(time.Second)
	in, server := need.Port(t), must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer server.Close()
	out := need.Port(t)
	far.apply(fmt.Sprintf("ingress tcp:%d:%s,max-conns=20000", in, server.Addr()))
	far.listening(0)
	near.apply(fmt.Sprintf("egress tcp:%d:%s:%d,max-conns=20000", out, netstacktest.B4, in))
	near.listening(0)

	lot := newParking(t)
	one := func() {
		c := must[net.Conn](t)(net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", out)))
		s := must[net.Conn](t)(server.Accept())
		if _, err := c.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(s, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Write([]byte("y")); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		lot.park(c)
		lot.park(s)
	}
	for range 10 {
		one()
	}
	goroutines := runtime.NumGoroutine()
	before, rss := memory(), residentSet()
	for range n {
		one()
	}
	rssNow := residentSet()
	after := memory()
	each := int(after-before) / n / 2
	t.Logf("%d connections: %d bytes each on each side; resident %d, later %d; %.1f goroutines", n, each,
		(rssNow-rss)/n/2, (residentSet()-rss)/n/2, float64(runtime.NumGoroutine()-goroutines)/float64(n)/2)
	if p := os.Getenv("PROXY_PROFILE"); p != "" {
		f, _ := os.Create(p)
		pprof.Lookup("heap").WriteTo(f, 0)
		f.Close()
	}
	near.eventually(0, "all open", func(s proxy.RuleStatus) bool { return s.Active >= int64(n) })
}

func residentSet() int {
	b, _ := os.ReadFile("/proc/self/statm")
	var size, rss int
	fmt.Sscan(string(b), &size, &rss)
	return rss * os.Getpagesize()
}

func memory() uint64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}

// parking holds connections open without an open file for each: they are on
// their way through a socket that nobody reads (unix(7), SCM_RIGHTS).
type parking struct {
	t       testing.TB
	way     [2]int
	waiting []*os.File
}

const parkedAtOnce = 200

func newParking(t testing.TB) *parking {
	way, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &parking{t: t, way: way}
	t.Cleanup(func() {
		p.forget()
		unix.Close(way[0])
		unix.Close(way[1])
	})
	return p
}

func (p *parking) park(c net.Conn) {
	file, err := c.(*net.TCPConn).File()
	c.Close()
	if err != nil {
		p.t.Fatal(err)
	}
	if p.waiting = append(p.waiting, file); len(p.waiting) < parkedAtOnce {
		return
	}
	var all []int
	for _, f := range p.waiting {
		all = append(all, int(f.Fd()))
	}
	if err := unix.Sendmsg(p.way[0], []byte{0}, unix.UnixRights(all...), nil, 0); err != nil {
		p.t.Fatal(err)
	}
	p.forget()
}

func (p *parking) forget() {
	for _, f := range p.waiting {
		f.Close()
	}
	p.waiting = nil
}

func addrs4(a netip.Addr) []netip.Addr { return []netip.Addr{a} }
