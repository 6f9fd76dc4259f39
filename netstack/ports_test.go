package netstack_test

import (
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"

	"nexd/netstack/netstacktest"
)

// gVisor hears of a listener with the first connection, also when many come at once.
func TestFirstConnections(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			a, b := netstacktest.Pair(t)
			l, at := listen(t, b, f.b)
			if got := b.Endpoints(); got != 0 {
				t.Errorf("%d endpoints before anybody has connected", got)
			}
			const many = 32
			var wg sync.WaitGroup
			for range many {
				wg.Go(func() {
					c, err := a.DialTCP(testContext(t), at)
					if err != nil {
						t.Error(err)
						return
					}
					c.Close()
				})
			}
			for range many {
				c, err := l.Accept()
				if err != nil {
					t.Fatal(err)
				}
				c.Close()
			}
			wg.Wait()
		})
	}
}

// A reset, or anything else than a SYN, does not open a port.
func TestOnlySynsOpenPorts(t *testing.T) {
	a, b := netstacktest.Pair(t)
	l, at := listen(t, b, netstacktest.B4)
	client, err := a.DialTCP(testContext(t), at)
	must(t, err)
	server, err := l.Accept()
	must(t, err)
	must(t, l.Close())
	again, err := b.ListenTCP(at)
	must(t, err)
	defer again.Close()
	defer server.Close()
	before := b.Endpoints()
	must(t, write(client, "of a connection"))
	must(t, client.Reset())
	_, err = a.Ping(testContext(t), netstacktest.B4)
	must(t, err)
	if got := b.Endpoints(); got > before {
		t.Errorf("%d endpoints, there were %d", got, before)
	}
}

// Ports exclude each other by address and family, whatever range they are in.
func TestPortsInUse(t *testing.T) {
	s := netstacktest.Stack(t, 0, netstacktest.A4, netstacktest.A6)
	any4, any6 := netip.IPv4Unspecified(), netip.IPv6Unspecified()
	for _, port := range []uint16{80, 20000} {
		for _, test := range []struct {
			first, second netip.Addr
			taken         bool
		}{
			{netstacktest.A4, netstacktest.A4, true},
			{netstacktest.A4, netstacktest.A6, false},
			{netstacktest.A4, any4, true},
			{any4, netstacktest.A4, true},
			{any4, netstacktest.A6, false},
			{netstacktest.A6, any4, false},
			{any6, netstacktest.A4, true},
			{netstacktest.A6, any6, true},
			{any4, any6, true},
			{netip.Addr{}, any6, true},
		} {
			first, err := s.ListenTCP(netip.AddrPortFrom(test.first, port))
			must(t, err)
			second, err := s.ListenTCP(netip.AddrPortFrom(test.second, port))
			if taken := errors.Is(err, syscall.EADDRINUSE); taken != test.taken || (err != nil) != test.taken {
				t.Errorf("port %d of %v, then of %v: %v", port, test.first, test.second, err)
			}
			if second != nil {
				must(t, second.Close())
			}
			must(t, first.Close())
		}
	}
}

// A port that is listened at, but not used yet, is no dialled connection's own.
func TestListenedPortsAreNotDialledFrom(t *testing.T) {
	a, b := netstacktest.Pair(t)
	l, at := listen(t, b, netstacktest.B4)
	defer l.Close()
	const first = 32768 // of the ports dialled from
	free := map[uint16]bool{40001: true, 65001: true}
	var all []net.Listener
	for port := first; port <= 65535; port++ {
		if free[uint16(port)] {
			continue
		}
		one, err := a.ListenTCP(netip.AddrPortFrom(netstacktest.A4, uint16(port)))
		must(t, err)
		all = append(all, one)
	}
	for range len(free) {
		c, err := a.DialTCP(testContext(t), at)
		must(t, err)
		defer c.Close()
		local := c.LocalAddr().(*net.TCPAddr).AddrPort()
		if !free[local.Port()] {
			t.Errorf("dialled from port %d", local.Port())
		}
		if _, err := a.ListenTCP(local); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listen at a connection's port: %v", err)
		}
	}
	for _, one := range all {
		must(t, one.Close())
	}
	again, err := a.ListenTCP(netip.AddrPortFrom(netstacktest.A4, first))
	must(t, err)
	must(t, again.Close())
}
