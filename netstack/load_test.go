package netstack_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"nexd/netstack"
	"nexd/netstack/netstacktest"
)

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
