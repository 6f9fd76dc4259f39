package bind

import (
	"bytes"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/test/need"
)

// bothCarriers runs a test with the sockets of this system and with plain ones.
func bothCarriers(t *testing.T, test func(t *testing.T, open func() *sockets)) {
	t.Run("best", func(t *testing.T) {
		test(t, func() *sockets { return newSockets().(*sockets) })
	})
	t.Run("plain", func(t *testing.T) {
		test(t, func() *sockets {
			s := newSockets().(*sockets)
			s.carrier = func(c *net.UDPConn, _ bool, _ *slog.Logger) carrier {
				_ = c.SetReadBuffer(extraBuffer)
				return newPlain(c)
			}
			return s
		})
	})
}

// drain reads all sockets of a conn.Bind on a free port and returns it. The
// channel is closed when all readers have ended.
func drain(t *testing.T, b conn.Bind) (<-chan packet, uint16) {
	t.Helper()
	fns, port, err := b.Open(0)
	if err != nil {
		t.Fatal(err)
	}
	out := make(chan packet, 4096)
	var readers sync.WaitGroup
	for _, fn := range fns {
		readers.Go(func() {
			bufs, sizes, eps := buffers(b.BatchSize(), 65535)
			for {
				n, err := fn(bufs, sizes, eps)
				if err != nil {
					if !errors.Is(err, net.ErrClosed) {
						t.Errorf("receive: %v", err)
					}
					return
				}
				for i := range n {
					out <- packet{bytes.Clone(bufs[i][:sizes[i]]), eps[i]}
				}
			}
		})
	}
	go func() {
		readers.Wait()
		close(out)
	}()
	t.Cleanup(func() {
		b.Close()
		for range out {
		}
	})
	return out, port
}

func buffers(n, size int) (bufs [][]byte, sizes []int, eps []conn.Endpoint) {
	for range n {
		bufs = append(bufs, make([]byte, size))
	}
	return bufs, make([]int, n), make([]conn.Endpoint, n)
}

func local(v6 bool, port uint16) *conn.StdNetEndpoint {
	ip := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if v6 {
		ip = netip.IPv6Loopback()
	}
	return &conn.StdNetEndpoint{AddrPort: netip.AddrPortFrom(ip, port)}
}

// tagged are packets of some sizes; from four bytes on they begin with a number.
func tagged(sizes ...int) (out [][]byte) {
	for i, n := range sizes {
		p := bytes.Repeat([]byte{byte(i)}, n)
		if n >= 4 {
			binary.BigEndian.PutUint32(p, uint32(i))
		}
		out = append(out, p)
	}
	return out
}

// repeated is n times the same size.
func repeated(n, size int) (sizes []int) {
	for range n {
		sizes = append(sizes, size)
	}
	return sizes
}

// alternates sends by both families in turn and returns how many of the
// packets have come. The IPv6 packet before each IPv4 one is for this host
// alone and for nobody (RFC 4291 section 2.7.1): what is left of its address
// behind the four bytes of the next one cannot be reached, and that is where
// conn.StdNetBind would send.
func alternates(t *testing.T, a, b conn.Bind) (got int) {
	const rounds = 20
	_, from := drain(t, a)
	in, port := drain(t, b)
	nobody := &conn.StdNetEndpoint{AddrPort: netip.AddrPortFrom(netip.MustParseAddr("ff01::ffff:7f00:1"), port)}
	for i := range rounds {
		v6 := i%2 == 1
		if !v6 {
			_ = a.Send(tagged(1), nobody) // sent or not
		}
		if err := a.Send(tagged(100+i), local(v6, port)); err != nil {
			t.Logf("send %d: %v", i, err)
			continue
		}
		select {
		case p := <-in:
			want := local(v6, from).AddrPort
			if !bytes.Equal(p.data, tagged(100 + i)[0]) || p.from.(*conn.StdNetEndpoint).AddrPort != want {
				t.Errorf("got %d bytes from %s, want %d from %s", len(p.data), p.from.DstToString(), 100+i, want)
			}
			got++
		case <-time.After(10 * time.Second):
			t.Logf("packet %d did not come", i)
		}
	}
	return got
}

func TestFamiliesAlternate(t *testing.T) {
	need.IPv6(t)
	bothCarriers(t, func(t *testing.T, open func() *sockets) {
		if got := alternates(t, open(), open()); got != 20 {
			t.Errorf("%d of 20 packets came", got)
		}
	})
}

func TestPacketsOfAllSizes(t *testing.T) {
	mixed := []int{1400, 1400, 1400, 32, 1400, 1, 0, 0, 7, 7, 9, 9000, 148, 0, 65507, 20000, 20000, 20000, 20000, 5, 0}
	cases := map[string][]int{
		"one":              {1},
		"empty":            {0},
		"only empty":       {0, 0, 0},
		"largest":          {65507, 65507},
		"mixed":            mixed,
		"equal":            repeated(128, 1400),
		"small":            repeated(128, 1),
		"more than 64":     append(repeated(65, 200), 100, 200),
		"growing":          {1, 2, 3, 4, 5, 6, 7, 8},
		"shrinking":        {8, 7, 6, 5, 4, 3, 2, 1},
		"large neighbours": repeated(6, 16384),
	}
	bothCarriers(t, func(t *testing.T, open func() *sockets) {
		a, b := open(), open()
		_, from := drain(t, a)
		in, port := drain(t, b)
		for _, v6 := range []bool{false, true} {
			if v6 {
				need.IPv6(t)
			}
			for name, sizes := range cases {
				sent := tagged(sizes...)
				kept := tagged(sizes...)
				if err := a.Send(sent, local(v6, port)); err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				for i, want := range kept {
					p := next(t, in)
					if !bytes.Equal(p.data, want) {
						t.Fatalf("%s, IPv6 %v: packet %d: got %d bytes, want %d", name, v6, i, len(p.data), len(want))
					}
					if p.from.(*conn.StdNetEndpoint).AddrPort != local(v6, from).AddrPort {
						t.Fatalf("%s: from %s", name, p.from.DstToString())
					}
					if !bytes.Equal(sent[i], want) {
						t.Fatalf("%s: packet %d was written to", name, i)
					}
				}
			}
		}
	})
}

func TestTooLargeGoesUp(t *testing.T) {
	bothCarriers(t, func(t *testing.T, open func() *sockets) {
		s := open()
		_, port := drain(t, s)
		if err := s.Send(tagged(65508), local(false, port)); !errors.Is(err, syscall.EMSGSIZE) {
			t.Errorf("error %v", err)
		}
	})
}

func TestMappedAddressGoesByIPv4(t *testing.T) {
	s := newSockets()
	in, port := drain(t, s)
	mapped := &conn.StdNetEndpoint{AddrPort: netip.AddrPortFrom(netip.MustParseAddr("::ffff:127.0.0.1"), port)}
	if err := s.Send(tagged(64), mapped); err != nil {
		t.Fatal(err)
	}
	if p := next(t, in); p.from.(*conn.StdNetEndpoint).AddrPort != local(false, port).AddrPort {
		t.Errorf("from %s", p.from.DstToString())
	}
}

func TestSendWhereNothingIsOpen(t *testing.T) {
	s := newSockets()
	if err := s.Send(tagged(1), local(false, 9)); err != net.ErrClosed {
		t.Errorf("before Open: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
	drain(t, s)
	if err := s.Send(tagged(1), nil); err != conn.ErrWrongEndpointType {
		t.Errorf("without an endpoint: %v", err)
	}
	if err := s.Send(tagged(1), &conn.StdNetEndpoint{}); err != syscall.EAFNOSUPPORT {
		t.Errorf("to nowhere: %v", err)
	}
	if _, _, err := s.Open(0); err != conn.ErrBindAlreadyOpen {
		t.Errorf("opened twice: %v", err)
	}
	s.Close()
	if err := s.Send(tagged(1), local(false, 9)); err != net.ErrClosed {
		t.Errorf("after Close: %v", err)
	}
}

func TestCloseEndsReceiveAndSend(t *testing.T) {
	bothCarriers(t, func(t *testing.T, open func() *sockets) {
		s := open()
		fns, port, err := s.Open(0)
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error)
		started := make(chan struct{}, 8)
		for _, fn := range fns {
			go func() {
				bufs, sizes, eps := buffers(s.BatchSize(), 2048)
				started <- struct{}{}
				for {
					if _, err := fn(bufs, sizes, eps); err != nil {
						ended <- err
						return
					}
				}
			}()
		}
		go func() {
			batch := tagged(repeated(s.BatchSize(), 1400)...)
			started <- struct{}{}
			for {
				if err := s.Send(batch, local(false, port)); err != nil {
					ended <- err
					return
				}
			}
		}()
		for range len(fns) + 1 {
			<-started
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		for range len(fns) + 1 {
			select {
			case err := <-ended:
				if err != net.ErrClosed {
					t.Errorf("ended with %v", err)
				}
			case <-time.After(10 * time.Second):
				t.Fatal("still blocked")
			}
		}
		if _, err := fns[0](buffers(1, 100)); err != net.ErrClosed {
			t.Errorf("after Close: %v", err)
		}
	})
}

func TestTakenPort(t *testing.T) {
	for _, network := range []string{"udp4", "udp6"} {
		if network == "udp6" {
			need.IPv6(t)
		}
		c, err := listenUDP(network, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		s := newSockets()
		if _, _, err = s.Open(portOf(c)); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: error %v", network, err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		_, port := drain(t, s)
		if port == 0 || port == portOf(c) {
			t.Errorf("port %d", port)
		}
	}
}

func TestSearchForAPortFreeForBoth(t *testing.T) {
	need.IPv6(t)
	s := newSockets().(*sockets)
	tried := 0
	s.listen = func(network string, port uint16) (*net.UDPConn, error) {
		if network == "udp6" {
			if tried++; tried < 4 {
				return nil, os.NewSyscallError("bind", syscall.EADDRINUSE)
			}
		}
		return listenUDP(network, port)
	}
	drain(t, s)
	if tried != 4 {
		t.Errorf("%d tries", tried)
	}
	s.Close()
	tried = -1000
	if _, _, err := s.Open(0); !errors.Is(err, syscall.EADDRINUSE) || tried != portTries-1000 {
		t.Errorf("%d tries, error %v", tried+1000, err)
	}
}

func TestHostWithOneFamily(t *testing.T) {
	for _, missing := range []string{"udp6", "udp4"} {
		if missing == "udp4" {
			need.IPv6(t)
		}
		s := newSockets().(*sockets)
		s.listen = func(network string, port uint16) (*net.UDPConn, error) {
			if network == missing {
				return nil, os.NewSyscallError("socket", syscall.EAFNOSUPPORT)
			}
			return listenUDP(network, port)
		}
		in, port := drain(t, s)
		has := missing == "udp4"
		if port == 0 {
			t.Errorf("without %s: the port is not told", missing)
		}
		if err := s.Send(tagged(9), local(has, port)); err != nil {
			t.Errorf("without %s: %v", missing, err)
		} else if p := next(t, in); len(p.data) != 9 {
			t.Errorf("without %s: got %d bytes", missing, len(p.data))
		}
		if err := s.Send(tagged(9), local(!has, port)); err != syscall.EAFNOSUPPORT {
			t.Errorf("without %s: %v", missing, err)
		}
		if err := s.SetMark(0); err != nil {
			t.Errorf("without %s: %v", missing, err)
		}
	}
	s := newSockets().(*sockets)
	s.listen = func(string, uint16) (*net.UDPConn, error) { return nil, syscall.EAFNOSUPPORT }
	if _, _, err := s.Open(0); !errors.Is(err, syscall.EAFNOSUPPORT) {
		t.Errorf("without any: %v", err)
	}
}

func TestSourcesShareEndpoints(t *testing.T) {
	var s sources
	for i := range 1000 {
		a := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), uint16(i))
		e := s.endpoint(a)
		if e.AddrPort != a || s.endpoint(a) != e {
			t.Fatalf("%s: got %s", a, e.AddrPort)
		}
	}
}
