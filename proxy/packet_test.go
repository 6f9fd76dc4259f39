package proxy_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"nexd/proxy"
	"nexd/test/need"
)

// udpEnds is one udp rule with its client and its destination.
type udpEnds struct {
	direction, target string
	port              uint16
	listen            func() (net.PacketConn, error)
	dial              func() (net.Conn, error)
}

func (e udpEnds) line(options string) string {
	return fmt.Sprintf("%s udp:%d:%s%s", e.direction, e.port, e.target, options)
}

// udpEnds uses the n-th address of each side; 0 is IPv4, 1 is IPv6.
func (w *world) udpEnds(direction string, n int) udpEnds {
	w.t.Helper()
	e := udpEnds{direction: direction, port: need.Port(w.t)}
	dest := need.Port(w.t)
	host := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("::1")}[n]
	if direction == "ingress" {
		at := netip.AddrPortFrom(host, dest)
		e.target = at.String()
		e.listen = func() (net.PacketConn, error) { return net.ListenPacket("udp", at.String()) }
		e.dial = func() (net.Conn, error) { return w.peer.DialUDP(netip.AddrPortFrom(w.own[n], e.port)) }
		return e
	}
	at := netip.AddrPortFrom(w.other[n], dest)
	e.target = at.String()
	if at.Addr().IsLoopback() {
		e.target = fmt.Sprintf("db:%d", dest)
	}
	e.listen = func() (net.PacketConn, error) { return w.peer.ListenUDP(at) }
	e.dial = func() (net.Conn, error) { return net.Dial("udp", netip.AddrPortFrom(host, e.port).String()) }
	return e
}

func bothUDP(t *testing.T, story func(*testing.T, *world, udpEnds)) {
	inWorlds(t, func(t *testing.T, w *world) {
		w.start(time.Second)
		for _, d := range []string{"ingress", "egress"} {
			for n := range w.own {
				t.Run(fmt.Sprintf("%s-v%d", d, 4+2*n), func(t *testing.T) {
					w.t = t
					story(t, w, w.udpEnds(d, n))
					w.engine.Apply(nil)
				})
			}
		}
		w.t = t
	})
}

// echoPackets answers every datagram with itself until the test ends.
func echoPackets(t testing.TB, listen func() (net.PacketConn, error)) net.PacketConn {
	t.Helper()
	pc := must[net.PacketConn](t)(listen())
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 1<<16)
		for {
			n, from, err := pc.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = pc.WriteTo(buf[:n], from)
		}
	}()
	t.Cleanup(func() {
		pc.Close()
		<-done
	})
	return pc
}

// asker is a client of a udp rule.
type asker struct {
	net.Conn
	again [][]byte // what was sent more than once: it may be answered late, and twice
}

func dialledUDP(t testing.TB, dial func() (net.Conn, error)) *asker {
	t.Helper()
	c := must[net.Conn](t)(dial())
	t.Cleanup(func() { c.Close() })
	return &asker{Conn: c}
}

// exchange sends until the answer comes: datagrams may get lost.
func exchange(t testing.TB, c *asker, p []byte) {
	t.Helper()
	got := make([]byte, 1<<16)
	for try := range 20 {
		if try > 0 {
			c.again = append(c.again, p)
		}
		if _, err := c.Write(p); err != nil {
			t.Fatalf("write %d bytes: %v", len(p), err)
		}
		_ = c.SetReadDeadline(time.Now().Add(500 * time.Millisecond))
		for {
			n, err := c.Read(got)
			if err != nil {
				break
			}
			if bytes.Equal(got[:n], p) {
				return
			}
			if !slices.ContainsFunc(c.again, func(q []byte) bool { return bytes.Equal(got[:n], q) }) {
				t.Fatalf("read %d bytes, want the %d sent", n, len(p))
			}
		}
	}
	t.Fatalf("no answer to %d bytes", len(p))
}

func TestDatagramSizes(t *testing.T) {
	bothUDP(t, func(t *testing.T, w *world, e udpEnds) {
		echoPackets(t, e.listen)
		w.apply(e.line(""))
		w.listening(0)
		c := dialledUDP(t, e.dial)
		for _, size := range []int{1, 0, 1200, 1500, 9000, 65507, 0, 5} {
			exchange(t, c, bytes.Repeat([]byte{byte(size)}, size))
		}
		if s := w.status(0); s.Active != 1 || s.Total != 1 {
			t.Errorf("%d flows, %d ever; want one", s.Active, s.Total)
		}
	})
}

func TestFlowsAreApart(t *testing.T) {
	bothUDP(t, func(t *testing.T, w *world, e udpEnds) {
		echoPackets(t, e.listen)
		w.apply(e.line(""))
		w.listening(0)
		for i := range 20 {
			exchange(t, dialledUDP(t, e.dial), fmt.Appendf(nil, "flow %d", i))
		}
		if s := w.status(0); s.Active != 20 {
			t.Errorf("%d flows, want 20", s.Active)
		}
	})
}

func TestFlowGoesWhenIdle(t *testing.T) {
	bothUDP(t, func(t *testing.T, w *world, e udpEnds) {
		echoPackets(t, e.listen)
		w.apply(e.line(",idle-timeout=200ms"))
		w.listening(0)
		c := dialledUDP(t, e.dial)
		exchange(t, c, []byte("x")) // on a busy machine in more than one flow
		w.eventually(0, "idle", func(s proxy.RuleStatus) bool {
			return s.Active == 0 && s.Total > 0 && s.Stats.IdleEnds == s.Total
		})
		exchange(t, c, []byte("a new flow"))
	})
}

func TestFlowCapEvictsTheQuietest(t *testing.T) {
	bothUDP(t, func(t *testing.T, w *world, e udpEnds) {
		echoPackets(t, e.listen)
		w.apply(e.line(",max-conns=3"))
		w.listening(0)
		old, quiet, third := dialledUDP(t, e.dial), dialledUDP(t, e.dial), dialledUDP(t, e.dial)
		exchange(t, old, []byte("1"))
		exchange(t, quiet, []byte("2"))
		exchange(t, third, []byte("3"))
		exchange(t, old, []byte("in use again"))
		exchange(t, dialledUDP(t, e.dial), []byte("4")) // takes the place of quiet
		w.eventually(0, "evicted", func(s proxy.RuleStatus) bool { return s.Active == 3 && s.Stats.Evicted == 1 })
		exchange(t, old, []byte("still the old flow"))
		exchange(t, third, []byte("this one too"))
		if s := w.status(0); s.Total != 4 || s.Stats.Evicted != 1 {
			t.Errorf("%d flows ever, %d evicted; want 4 and 1", s.Total, s.Stats.Evicted)
		}
	})
}

func TestUnreachableDatagrams(t *testing.T) {
	bothUDP(t, func(t *testing.T, w *world, e udpEnds) {
		w.apply(e.line(""))
		w.listening(0)
		c := dialledUDP(t, e.dial)
		if _, err := c.Write([]byte("anybody?")); err != nil {
			t.Fatal(err)
		}
		w.eventually(0, "degraded", func(s proxy.RuleStatus) bool {
			return s.State == proxy.StateDegraded && strings.Contains(s.Error, "refused") && s.Active == 0 && s.Stats.Unreachable == 1
		})
		echoPackets(t, e.listen)
		exchange(t, c, []byte("now?"))
		w.listening(0)
	})
}

func TestUDPBalanceSkipsTheDead(t *testing.T) {
	w := stackWorld(t)
	w.start(time.Second)
	e := w.udpEnds("ingress", 0)
	echoPackets(t, e.listen)
	w.apply(fmt.Sprintf("ingress udp:%d:127.0.0.1:%d", e.port, need.Port(t)), e.line(""))
	w.listening(1)
	for range 4 {
		exchange(t, dialledUDP(t, e.dial), []byte("x"))
	}
}

func TestUDPAllow(t *testing.T) {
	w := stackWorld(t)
	w.start(time.Second)
	e := w.udpEnds("ingress", 0)
	echoPackets(t, e.listen)
	w.apply(e.line(",allow=me"))
	w.listening(0)
	if _, err := dialledUDP(t, e.dial).Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	w.eventually(0, "refused", func(s proxy.RuleStatus) bool { return s.Stats.RefusedAllow == 1 && s.Total == 0 })
}

// A socket bound to every address answers from the one that was asked.
func TestWildcardAnswersFromTheAddressAsked(t *testing.T) {
	w := loopbackWorld(t)
	w.start(time.Second)
	e := w.udpEnds("egress", 0)
	echoPackets(t, e.listen)
	for _, bind := range []string{"0.0.0.0", "[::]"} {
		w.apply(fmt.Sprintf("egress udp:%s:%d:%s", bind, e.port, e.target))
		w.listening(0)
		asked := []string{"127.0.0.1", "127.0.0.53"}
		if bind == "[::]" {
			asked = append(asked, "[::1]")
		}
		for _, a := range asked {
			// A connected socket takes answers from this address only.
			c := dialledUDP(t, func() (net.Conn, error) { return net.Dial("udp", a+fmt.Sprintf(":%d", e.port)) })
			exchange(t, c, []byte("from where I asked"))
		}
	}
}

func TestUDPRuleRemovedAndEngineEnds(t *testing.T) {
	bothUDP(t, func(t *testing.T, w *world, e udpEnds) {
		echoPackets(t, e.listen)
		w.apply(e.line(""))
		w.listening(0)
		c := dialledUDP(t, e.dial)
		exchange(t, c, []byte("x"))
		w.apply()
		w.apply(e.line("")) // the port is free at once
		if s := w.status(0); s.State != proxy.StateListening {
			t.Fatalf("status %+v", s)
		}
		exchange(t, dialledUDP(t, e.dial), []byte("y"))
	})
}

// The mesh address goes and comes back before the engine looks: the old socket
// is dead, and a new one takes its place.
func TestUDPMeshAddressGoesAndComesBack(t *testing.T) {
	w := stackWorld(t)
	w.start(time.Second)
	e := w.udpEnds("ingress", 1)
	echoPackets(t, e.listen)
	w.apply(e.line(""))
	w.listening(0)
	exchange(t, dialledUDP(t, e.dial), []byte("before"))
	stack := w.mesh.(stackMesh).Stack
	for _, addrs := range [][]netip.Addr{nil, w.own} {
		if err := stack.SetAddresses(addrs); err != nil {
			t.Fatal(err)
		}
	}
	w.engine.AddressesChanged()
	c := dialledUDP(t, e.dial)
	for until := time.Now().Add(patience); ; {
		_, _ = c.Write([]byte("after")) // refused until the new socket is there
		_ = c.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		if n, err := c.Read(make([]byte, 10)); err == nil && n == 5 {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("no answer after the address came back: %+v", w.status(0))
		}
	}
	w.listening(0)
}

func TestUDPDrain(t *testing.T) {
	w := stackWorld(t)
	w.start(20 * time.Second)
	e := w.udpEnds("egress", 0)
	echoPackets(t, e.listen)
	w.apply(e.line(""))
	w.listening(0)
	exchange(t, dialledUDP(t, e.dial), []byte("x"))
	w.stop()
	select {
	case <-w.ended: // after a quiet second, not after 60 or 20
	case <-time.After(10 * time.Second):
		t.Fatal("a quiet flow holds the engine up")
	}
}
