package tunnel_test

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"nexd/bind"
	"nexd/key"
	"nexd/tunnel"
)

func TestRebindAndReUp(t *testing.T) {
	a, b := pair(t)
	exchange(a, b, 1)
	port := a.bind.Port()
	for i := range uint32(3) {
		if err := a.Rebind(); err != nil {
			t.Fatal(err)
		}
		if err := a.Up(); err != nil {
			t.Fatal(err)
		}
		exchange(a, b, 10+2*i)
	}
	if a.bind.Port() != port {
		t.Errorf("port %d, was %d", a.bind.Port(), port)
	}
}

func TestPortInUse(t *testing.T) {
	a := newNode(t, 1)
	bd := bind.New(bind.Config{Port: a.bind.Port()})
	tn, err := tunnel.New(tunnel.Config{Private: key.NewPrivate(), Device: newFakeDevice(), Bind: bd})
	if err != nil {
		t.Fatal(err)
	}
	defer tn.Close()
	for range 2 {
		if err := tn.Up(); !errors.Is(err, syscall.EADDRINUSE) {
			t.Fatalf("error %v", err)
		}
	}
	bd.SetPort(0)
	if err := tn.Up(); err != nil {
		t.Fatal(err)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := tunnel.New(tunnel.Config{Device: newFakeDevice(), Bind: bind.New(bind.Config{})}); !errors.Is(err, key.ErrZero) {
		t.Errorf("without a key: %v", err)
	}
	if _, err := tunnel.New(tunnel.Config{Private: key.NewPrivate()}); err == nil {
		t.Error("without a device: no error")
	}
}

func TestCloseWithoutUp(t *testing.T) {
	dev := newFakeDevice()
	tn, err := tunnel.New(tunnel.Config{Private: key.NewPrivate(), Device: dev, Bind: bind.New(bind.Config{})})
	if err != nil {
		t.Fatal(err)
	}
	tn.SetPeers([]tunnel.Peer{{Key: key.NewPrivate().Public()}})
	tn.Activate(key.NewPrivate().Public())
	for range 2 {
		if err := tn.Close(); err != nil {
			t.Fatal(err)
		}
	}
	<-dev.closed
	<-tn.Done()
	if err := tn.Up(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Up after Close: %v", err)
	}
}

func TestEndsWhenTheDeviceDoes(t *testing.T) {
	a, b := pair(t)
	exchange(a, b, 1)
	a.dev.Close()
	select {
	case <-a.Done():
	case <-time.After(eventually):
		t.Fatal("the tunnel goes on without a device")
	}
	a.know(b)
	a.Activate(b.key)
	a.Stats()
	a.Close()
}

func TestEverythingAtOnce(t *testing.T) {
	a, b := pair(t, func(c *tunnel.Config) { c.IdleTimeout = 20 * time.Millisecond })
	stop := make(chan struct{})
	var wg sync.WaitGroup
	loop := func(f func(i int)) {
		wg.Go(func() {
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
					f(i)
					runtime.Gosched()
				}
			}
		})
	}
	offer := func(n *node, to netip.Addr, i int) {
		select {
		case n.dev.out <- udpPacket(n.addr, to, uint32(i)):
		case <-stop:
		}
	}
	drain := func(n *node) {
		select {
		case <-n.dev.in:
		case <-n.changes:
		case <-stop:
		}
	}
	for _, n := range []*node{a, b} {
		other := a
		if n == a {
			other = b
		}
		loop(func(i int) { offer(n, other.addr, i) })
		loop(func(int) { drain(n) })
		loop(func(i int) {
			if i%3 == 0 {
				n.SetPeers(nil)
			}
			n.know(other)
			n.Activate(other.key)
			n.Stats()
			n.LastData(other.key)
		})
		loop(func(i int) {
			if i%2 == 0 {
				n.bind.SetRoute(other.key, bind.Route{})
			} else {
				n.find(other)
			}
		})
	}
	timer := time.NewTimer(time.Second)
	defer timer.Stop()
	<-timer.C
	var closing sync.WaitGroup
	for _, n := range []*node{a, a, b, b} {
		closing.Go(func() { n.Close() })
	}
	closing.Wait()
	close(stop)
	wg.Wait()
}

func TestTenThousandMembersAreATable(t *testing.T) {
	a, b := pair(t)
	exchange(a, b, 1)
	const members = 10_000
	peers := []tunnel.Peer{b.peer()}
	for i := range members {
		var raw [32]byte
		raw[0], raw[1], raw[31] = byte(i), byte(i>>8), 1
		k, err := key.PublicFromBytes(raw[:])
		if err != nil {
			t.Fatal(err)
		}
		peers = append(peers, tunnel.Peer{Key: k, Addresses: []netip.Addr{
			netip.AddrFrom4([4]byte{100, 65, byte(i >> 8), byte(i)}),
			netip.AddrFrom16([16]byte{0: 0xfd, 1: 1, 14: byte(i >> 8), 15: byte(i)}),
		}})
	}
	before, goroutines := heap(), runtime.NumGoroutine()
	start := time.Now()
	a.SetPeers(peers)
	took := time.Since(start)
	// The rows keep nothing of the caller's, which stays referenced below.
	perPeer := (int64(heap()) - int64(before)) / members
	t.Logf("%d bytes per never-used member, table built in %v", perPeer, took)
	if perPeer > 4096 {
		t.Errorf("%d bytes per member, want 4096 at most", perPeer)
	}
	if got := runtime.NumGoroutine(); got > goroutines+2 {
		t.Errorf("%d goroutines, were %d", got, goroutines)
	}
	exchange(a, b, 10)
	if got := a.Counters().Activations; got != 1 {
		t.Errorf("%d members configured, want 1", got)
	}
	runtime.KeepAlive(peers)
}

func heap() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
