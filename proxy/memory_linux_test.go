package proxy_test

import (
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"nexd/netstack/netstacktest"
	"nexd/proxy"
	"nexd/test/idle"
	"nexd/test/need"
)

// idleConns is how many connections are opened: a thousand say what one costs.
// PROXY_CONNECTIONS=9000 asks for more; each takes two descriptors.
func idleConns() int {
	if n, err := strconv.Atoi(os.Getenv("PROXY_CONNECTIONS")); err == nil {
		return n
	}
	return 1000
}

// A connection that does nothing costs below 16 KiB on each side and holds no
// goroutine, and what many had is given back after them.
func TestIdleMemory(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("many connections take a while")
	}
	n := idleConns()
	a, b := netstacktest.Pair(t)
	near := &world{t: t, mesh: stackMesh{a}, own: []netip.Addr{netstacktest.A4}, other: []netip.Addr{netstacktest.B4}}
	far := &world{t: t, mesh: stackMesh{b}, own: []netip.Addr{netstacktest.B4}, other: []netip.Addr{netstacktest.A4}}
	near.start(time.Second)
	far.start(time.Second)
	in, out := need.Port(t), need.Port(t)
	server := must[net.Listener](t)(net.Listen("tcp", "127.0.0.1:0"))
	defer server.Close()
	far.apply(fmt.Sprintf("ingress tcp:%d:%s,max-conns=20000", in, server.Addr()))
	far.listening(0)
	near.apply(fmt.Sprintf("egress tcp:%d:%s:%d,max-conns=20000", out, netstacktest.B4, in))
	near.listening(0)

	dial := func() (net.Conn, error) { return net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", out)) }
	open := func(lot *idle.Lot) {
		c := dialled(t, dial)
		s := accepted(t, server)
		for _, way := range [][2]net.Conn{{c, s}, {s, c}} {
			if _, err := way[0].Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(way[1], make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		lot.Park(c)
		lot.Park(s)
	}
	none := idle.NewLot(t)
	for range 10 { // what is made once
		open(none)
	}
	quiet := func(goroutines int) {
		t.Helper()
		for until := time.Now().Add(patience); runtime.NumGoroutine() > goroutines; {
			if time.Now().After(until) {
				t.Fatalf("%d goroutines, want at most %d", runtime.NumGoroutine(), goroutines)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
	// At rest there are the spare workers of both engines, at most.
	rest := runtime.NumGoroutine() + 40
	before := idle.Memory()
	lot := idle.NewLot(t)
	for range n {
		open(lot)
	}
	quiet(rest)
	each := int(idle.Memory()-before) / n / 2
	t.Logf("%d connections: %d bytes each on each side", n, each)
	if each > 16<<10 {
		t.Errorf("a connection costs %d bytes on each side", each)
	}
	if s := near.status(0); s.Active != int64(n+10) {
		t.Errorf("%d connections are open", s.Active)
	}

	lot.Leave()
	near.eventually(0, "closed", func(s proxy.RuleStatus) bool { return s.Active == 10 })
	far.eventually(0, "closed", func(s proxy.RuleStatus) bool { return s.Active == 10 })
	quiet(rest)
}

// A rule that nobody uses holds no goroutine; the memory of an ingress rule is
// mostly that of its listeners in the stack.
func TestRuleMemory(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("many rules take a while")
	}
	const many = 500
	for direction, most := range map[string]int{"ingress": 16 << 10, "egress": 8 << 10} {
		t.Run(direction, func(t *testing.T) {
			w := stackWorld(t)
			w.start(time.Second)
			target := "127.0.0.1:9"
			if direction == "egress" {
				target = netip.AddrPortFrom(w.other[0], 9).String()
			}
			var lines []string
			for range many + 1 {
				lines = append(lines, fmt.Sprintf("%s tcp:%d:%s", direction, need.Port(t), target))
			}
			all := parse(t, lines...)
			w.engine.Apply(all[:1])
			w.listening(0)
			before, goroutines := idle.Memory(), runtime.NumGoroutine()
			w.engine.Apply(all)
			for i := range all {
				w.listening(i)
			}
			each := int(idle.Memory()-before) / many
			t.Logf("%d bytes each", each)
			if each > most {
				t.Errorf("a rule costs %d bytes", each)
			}
			if more := runtime.NumGoroutine() - goroutines; more > 40 {
				t.Errorf("%d rules have %d goroutines", many, more)
			}
		})
	}
}
