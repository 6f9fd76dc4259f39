package netstack_test

import (
	"io"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip/header"

	"nexd/netstack"
	"nexd/netstack/netstacktest"
)

// slowSYN makes handshakes, and nothing else, take their time.
func slowSYN(packet []byte, _ bool) bool {
	if header.TCP(packet[header.IPv4MinimumSize:]).Flags()&header.TCPFlagSyn != 0 {
		time.Sleep(10 * time.Millisecond) // the delay of the wire
	}
	return true
}

// Who is near is found out by the handshake, and forgotten when the path changes.
func TestNear(t *testing.T) {
	a, b := netstacktest.Pair(t)
	_, server := nearby(t, a, b, netstacktest.B4)
	b.PathMoved(netstacktest.A4)
	if server.Near() {
		t.Error("near though its path is another")
	}
	if _, server := nearby(t, a, b, netstacktest.B4); !server.Near() {
		t.Error("not near by the new path")
	}
	b.SetPathMTU(netstacktest.A4, 0)
	if server.Near() {
		t.Error("near though it is gone")
	}

	a, b = netstacktest.PairWith(t, netstacktest.Options{Hook: slowSYN})
	if client, server := connect(t, a, b, netstacktest.B4); client.Near() || server.Near() {
		t.Error("taken for near")
	}
}

// The receive window grows with what is read, near and far.
func TestWindowGrows(t *testing.T) {
	for name, options := range map[string]netstacktest.Options{"near": {}, "far": {Hook: slowSYN}} {
		t.Run(name, func(t *testing.T) {
			a, b := netstacktest.PairWith(t, options)
			client, server := connect(t, a, b, netstacktest.B4)
			exchange(t, client, server, 24<<20)
			if size := server.ReceiveBuffer(); size <= netstack.ReceiveDefault {
				t.Errorf("a receive buffer of %d bytes", size)
			}
		})
	}
}

// nearby makes a connection whose server finds the client near.
func nearby(t testing.TB, a, b *netstack.Stack, to netip.Addr) (client, server *netstack.Conn) {
	t.Helper()
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); { // the machine may be busy
		if client, server = connect(t, a, b, to); server.Near() {
			return client, server
		}
	}
	t.Fatal("nobody is near")
	return nil, nil
}

// windows watches what a side of a wire advertises, by connection.
type windows struct {
	mu    sync.Mutex
	flows map[uint16]*advertised // by the port that advertises
	back  int                    // bytes that were promised and taken back
}

type advertised struct {
	edge   uint32
	lately int // the last window, in bytes
}

func (w *windows) see(packet []byte) {
	ip := header.IPv4MinimumSize
	if packet[0]>>4 == 6 {
		ip = header.IPv6MinimumSize
	}
	tcp := header.TCP(packet[ip:])
	if tcp.Flags()&header.TCPFlagAck == 0 || tcp.Flags()&(header.TCPFlagSyn|header.TCPFlagRst) != 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.flows[tcp.SourcePort()]
	if f == nil {
		f = &advertised{edge: tcp.AckNumber()}
		w.flows[tcp.SourcePort()] = f
	}
	f.lately = int(tcp.WindowSize()) << 7 // the scale of a largest buffer of 4 MB
	edge := tcp.AckNumber() + uint32(f.lately)
	if short := int32(f.edge - edge); short > 0 {
		w.back = max(w.back, int(short))
	} else {
		f.edge = edge
	}
}

func (w *windows) of(c *netstack.Conn) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	f := w.flows[uint16(c.LocalAddr().(*net.TCPAddr).Port)]
	if f == nil {
		return 0
	}
	return f.lately
}

// inUse has a byte go to and fro on a connection until stop.
func inUse(t *testing.T, one, other *netstack.Conn) (stop func()) {
	var ended atomic.Bool
	var passing sync.WaitGroup
	passing.Go(func() {
		ball := make([]byte, 1)
		for !ended.Load() {
			for _, way := range [][2]*netstack.Conn{{one, other}, {other, one}} {
				for _, c := range way {
					c.SetDeadline(time.Now().Add(patience))
				}
				if _, err := way[0].Write(ball); err != nil {
					t.Error(err)
					return
				}
				if _, err := io.ReadFull(way[1], ball); err != nil {
					t.Error(err)
					return
				}
			}
		}
	})
	stop = sync.OnceFunc(func() {
		ended.Store(true)
		passing.Wait()
	})
	t.Cleanup(stop)
	return stop
}

// Beside another connection that is in use the window of a nearby peer is small;
// it is whole before and afterwards, and all bytes arrive.
func TestWindowBeside(t *testing.T) {
	for _, family := range families {
		t.Run(family.name, func(t *testing.T) {
			seen := &windows{flows: map[uint16]*advertised{}}
			a, b := netstacktest.PairWith(t, netstacktest.Options{Hook: func(packet []byte, fromA bool) bool {
				if !fromA {
					seen.see(packet)
				}
				return true
			}})
			client, server := nearby(t, a, b, family.b)
			one, other := connect(t, a, b, family.b)
			const small, whole = 200 << 10, 400 << 10
			send := func(until func(window int) bool) {
				t.Helper()
				for _, c := range []*netstack.Conn{client, server} {
					c.SetDeadline(time.Now().Add(2 * patience))
				}
				buf := make([]byte, 1<<20)
				var got sync.WaitGroup
				defer got.Wait()
				for deadline := time.Now().Add(patience); ; {
					got.Go(func() { io.CopyN(io.Discard, struct{ io.Reader }{server}, int64(len(buf))) })
					if _, err := client.Write(buf); err != nil {
						t.Fatal(err)
					}
					got.Wait()
					if until(seen.of(server)) {
						return
					}
					if time.Now().After(deadline) {
						t.Fatalf("a window of %d bytes", seen.of(server))
					}
				}
			}
			send(func(window int) bool { return window >= whole })
			stop := inUse(t, one, other) // all the time: a transfer takes long on a busy machine
			send(func(window int) bool { return window <= small })
			stop()
			send(func(window int) bool { return window >= whole })
			client.SetDeadline(time.Now().Add(patience))
			server.SetDeadline(time.Now().Add(patience))
			exchange(t, client, server, 8<<20)
			if seen.back >= 1<<7 {
				t.Errorf("%d bytes were promised and taken back", seen.back)
			}
		})
	}
}
