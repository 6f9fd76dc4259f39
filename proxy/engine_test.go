package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"nexd/proxy"
	"nexd/test/need"
)

func hostListen(port uint16) func() (net.Listener, error) {
	return func() (net.Listener, error) { return net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)) }
}

func (w *world) peerDial(port uint16) func() (net.Conn, error) {
	return func() (net.Conn, error) {
		return w.peer.DialTCP(context.Background(), netip.AddrPortFrom(w.own[0], port))
	}
}

func TestUnchangedRulesKeepTheirConnections(t *testing.T) {
	w := loopbackWorld(t)
	w.start(200 * time.Millisecond)
	one, two := need.Port(t), need.Port(t)
	serve(t, listened(t, hostListen(one)), echo)
	serve(t, listened(t, hostListen(two)), echo)
	port := need.Port(t)
	keep := fmt.Sprintf("ingress tcp:%d:127.0.0.1:%d", port, one)
	partner := fmt.Sprintf("ingress tcp:%d:127.0.0.1:%d", port, two)
	w.apply(keep)
	w.listening(0)
	c := dialled(t, w.peerDial(port))
	roundTrip(t, c, "before")

	w.apply(keep, partner)
	w.listening(1)
	roundTrip(t, c, "a rule of the same port was added")
	other := dialled(t, w.peerDial(port)) // the turn is the second rule's, or the first's
	another := dialled(t, w.peerDial(port))
	roundTrip(t, other, "x")
	roundTrip(t, another, "x")
	if a, b := w.status(0), w.status(1); a.Active+b.Active != 3 || b.Active != 1 {
		t.Fatalf("active %d and %d, want 2 and 1", a.Active, b.Active)
	}

	w.apply(keep)
	roundTrip(t, c, "the added rule was removed")
	// The connection of the removed rule ends with the drain timeout, no other does.
	_, errOther := other.Read(make([]byte, 1))
	if errOther == nil {
		t.Fatal("bytes from nowhere")
	}
	roundTrip(t, c, "still here")
	if s := w.status(0); s.Total < 2 {
		t.Errorf("the kept rule lost its counters: %+v", s)
	}
	w.apply()
	if _, err := w.peerDial(port)(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial after removal: %v", err)
	}
}

func TestRemovedRuleDrains(t *testing.T) {
	bothDirections(t, func(t *testing.T, w *world, e ends) {
		serve(t, listened(t, e.listen), echo)
		var c net.Conn
		var began time.Time
		inTime(t, 500*time.Millisecond, func() error { // of the second it may take
			w.apply(e.line(""))
			w.listening(0)
			c = dialled(t, e.dial)
			roundTrip(t, c, "before")
			w.apply()
			began = time.Now()
			return trip(c, "within the drain timeout")
		})
		if _, err := e.dial(); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("a new connection: %v, want refused", err)
		}
		wantCut(t, c, began)
	})
}

func TestEndWaitsForTransfers(t *testing.T) {
	bothDirectionsOnce(t, 5*time.Second, func(t *testing.T, w *world, e ends) {
		ln := listened(t, e.listen)
		w.apply(e.line(""))
		w.listening(0)
		client := dialled(t, e.dial)
		server := accepted(t, ln)
		serve(t, ln, say("")) // the late ones
		if _, err := io.WriteString(server, "first half, "); err != nil {
			t.Fatal(err)
		}
		w.stop()
		// Once it accepts no more it is draining.
		for until := time.Now().Add(patience); ; {
			c, err := e.dial()
			if err != nil {
				break
			}
			c.Close()
			if time.Now().After(until) {
				t.Fatal("still accepts")
			}
		}
		if _, err := io.WriteString(server, "second half"); err != nil {
			t.Fatal(err)
		}
		server.Close()
		if got, err := io.ReadAll(client); err != nil || string(got) != "first half, second half" {
			t.Fatalf("read %q, %v", got, err)
		}
		client.Close()
		select {
		case <-w.ended:
		case <-time.After(4 * time.Second):
			t.Fatal("the engine waits although every connection has finished")
		}
	})
}

func TestEndCutsWhatDoesNotFinish(t *testing.T) {
	bothDirectionsOnce(t, 100*time.Millisecond, func(t *testing.T, w *world, e ends) {
		ln := listened(t, e.listen)
		w.apply(e.line(""))
		w.listening(0)
		client := dialled(t, e.dial)
		server := accepted(t, ln)
		began := time.Now()
		roundTripTo(t, client, server, "x")
		w.stop()
		for _, c := range []net.Conn{client, server} {
			wantCut(t, c, began)
		}
		<-w.ended
	})
}

// wantCut expects the end of a stream that nobody takes for a whole one: a reset,
// unless nothing has moved in it for a second. Something has at began.
func wantCut(t *testing.T, c net.Conn, began time.Time) {
	t.Helper()
	got, err := io.ReadAll(c)
	rested := time.Since(began) >= time.Second
	if len(got) > 0 || !errors.Is(err, syscall.ECONNRESET) && !(rested && err == nil) {
		t.Errorf("read %q, %v; want a reset", got, err)
	}
}

func roundTripTo(t *testing.T, from, to net.Conn, text string) {
	t.Helper()
	_, _ = io.WriteString(from, text)
	got := make([]byte, len(text))
	if _, err := io.ReadFull(to, got); err != nil {
		t.Fatal(err)
	}
}

// bothDirectionsOnce is bothDirections with an engine for each.
func bothDirectionsOnce(t *testing.T, drain time.Duration, story func(*testing.T, *world, ends)) {
	for _, d := range []string{"ingress", "egress"} {
		t.Run(d, func(t *testing.T) {
			inWorlds(t, func(t *testing.T, w *world) {
				w.start(drain)
				story(t, w, w.ends(d))
			})
		})
	}
}

func TestDrainKeepsRunWaiting(t *testing.T) {
	w := loopbackWorld(t)
	w.start(time.Second)
	e := w.ends("egress")
	serve(t, listened(t, e.listen), echo)
	w.apply(e.line(""))
	w.listening(0)
	c := dialled(t, e.dial)
	roundTrip(t, c, "x")
	drained := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() { defer close(drained); w.engine.Drain(ctx) }()
	began := time.Now()
	roundTrip(t, c, "still")
	select {
	case <-drained:
		t.Fatal("drained with an open connection")
	default:
	}
	cancel() // the second signal
	<-drained
	wantCut(t, c, began)
	w.apply(e.line(""), e.line(",max-conns=1")) // without effect, and without harm
}

func TestPortInUseThenFreed(t *testing.T) {
	bothDirections(t, func(t *testing.T, w *world, e ends) {
		var taken net.Listener
		if e.direction == "ingress" {
			taken = must[net.Listener](t)(w.mesh.ListenTCP(netip.AddrPortFrom(w.own[0], e.port)))
		} else {
			taken = must[net.Listener](t)(hostListen(e.port)())
		}
		defer taken.Close()
		serve(t, listened(t, e.listen), say("hello"))
		fine := w.ends(e.direction)
		serve(t, listened(t, fine.listen), say("fine"))
		w.apply(e.line(""), fine.line(""))
		if s := w.status(0); s.State != proxy.StateFailed || !strings.Contains(s.Error, "in use") {
			t.Fatalf("status %+v", s)
		}
		if s := w.status(1); s.State != proxy.StateListening {
			t.Errorf("another rule suffers: %+v", s)
		}
		if got, err := ask(t, fine.dial); got != "fine" {
			t.Errorf("another rule answers %q, %v", got, err)
		}
		taken.Close()
		w.listening(0)
		if got, err := ask(t, e.dial); got != "hello" {
			t.Errorf("answer %q, %v", got, err)
		}
	})
}

func TestListenProblems(t *testing.T) {
	noNames(t)
	w := loopbackWorld(t)
	w.start(time.Second)
	w.apply(
		fmt.Sprintf("egress tcp:203.0.113.9:%d:db:80", need.Port(t)),
		"ingress tcp:100.64.9.9:80:127.0.0.1:80",
		fmt.Sprintf("egress tcp:%d:nosuchdevice.nexd.internal:80", need.Port(t)),
		fmt.Sprintf("ingress tcp:%d:name.invalid:80", need.Port(t)),
		fmt.Sprintf("egress tcp:%d:name.invalid:80", need.Port(t)),
	)
	for i, want := range []string{
		"does not have the address", "does not have the address", "no device named nosuchdevice", "name name.invalid does not resolve",
		"no device named name.invalid in the mesh: name name.invalid does not resolve",
	} {
		w.eventually(i, "failed with "+want, func(s proxy.RuleStatus) bool {
			return s.State == proxy.StateFailed && strings.Contains(s.Error, want) && !strings.Contains(s.Error, "\n")
		})
	}
	// The device turns up.
	w.dir.add(member{name: "nosuchdevice", addrs: w.other})
	w.engine.AddressesChanged()
	w.listening(2)
}

func TestMeshAddressesCome(t *testing.T) {
	inWorlds(t, func(t *testing.T, w *world) {
		own := w.own
		w.own = nil
		w.start(time.Second)
		w.own = own
		e := w.ends("ingress")
		serve(t, listened(t, e.listen), echo)
		w.apply(e.line(""))
		if s := w.status(0); s.State != proxy.StateFailed || !strings.Contains(s.Error, "no mesh address") {
			t.Fatalf("status %+v", s)
		}
		w.dir.setOwn(own[:1]...)
		w.engine.AddressesChanged()
		w.listening(0)
		c := dialled(t, e.dial)
		roundTrip(t, c, "x")
		w.dir.setOwn(own...)
		w.engine.AddressesChanged()
		roundTrip(t, c, "still the same listener")
		if len(own) > 1 {
			for until := time.Now().Add(patience); ; {
				c, err := w.peer.DialTCP(context.Background(), netip.AddrPortFrom(own[1], e.port))
				if err == nil {
					c.Close()
					break
				}
				if time.Now().After(until) {
					t.Fatalf("second address: %v", err)
				}
			}
		}
	})
}

func TestOnlyDeclaredPortsAndLoopback(t *testing.T) {
	w := stackWorld(t)
	w.start(time.Second)
	port, dest := need.Port(t), need.Port(t)
	serve(t, listened(t, hostListen(dest)), echo)
	w.apply(fmt.Sprintf("ingress tcp:%d:127.0.0.1:%d", port, dest), fmt.Sprintf("egress tcp:%d:db:80", port))
	w.listening(0)
	if _, err := w.peerDial(dest)(); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("undeclared port: %v", err)
	}
	if c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.2:%d", port)); err == nil {
		c.Close()
		t.Error("an egress rule without BIND listens on more than the two loopback addresses")
	}
}

func TestAllow(t *testing.T) {
	for _, c := range []struct {
		direction, allow string
		admitted         bool
	}{
		{"ingress", "", true},
		{"ingress", ",allow=db", true},
		{"ingress", ",allow=me", false},
		{"ingress", ",allow=tag:web", true},
		{"ingress", ",allow=tag:mail", false},
		{"ingress", ",allow=tag:mail,allow=db", true},
		{"ingress", ",allow=100.64.0.0/24", true},
		{"ingress", ",allow=100.64.0.1", false},
		{"ingress", ",allow=fd00::/64", false},
		{"egress", ",allow=127.0.0.0/8", true},
		{"egress", ",allow=10.0.0.0/8", false},
	} {
		t.Run(c.direction+c.allow, func(t *testing.T) {
			w := stackWorld(t)
			w.start(time.Second)
			e := w.ends(c.direction)
			serve(t, listened(t, e.listen), say("welcome"))
			w.apply(e.line(c.allow))
			w.listening(0)
			got, err := ask(t, e.dial)
			if c.admitted && (err != nil || got != "welcome") {
				t.Errorf("read %q, %v", got, err)
			}
			if !c.admitted && (!errors.Is(err, syscall.ECONNRESET) || w.status(0).Stats.RefusedAllow != 1) {
				t.Errorf("read %q, %v; stats %+v", got, err, w.status(0).Stats)
			}
		})
	}
}

func TestBalance(t *testing.T) {
	w := loopbackWorld(t)
	w.start(time.Second)
	port := need.Port(t)
	dests := []uint16{need.Port(t), need.Port(t), need.Port(t)}
	var lines []string
	for _, d := range dests {
		lines = append(lines, fmt.Sprintf("ingress tcp:%d:127.0.0.1:%d", port, d))
	}
	serve(t, listened(t, hostListen(dests[0])), say("0"))
	serve(t, listened(t, hostListen(dests[2])), say("2"))
	w.apply(lines...)
	w.listening(2)
	seen := map[string]int{}
	began := time.Now()
	for range 12 {
		got, err := ask(t, w.peerDial(port))
		if err != nil {
			t.Fatal(err)
		}
		seen[got]++
	}
	if seen["0"] < 4 || seen["2"] < 4 {
		t.Errorf("answers %v", seen)
	}
	s := w.engine.Status()
	if s[0].State != proxy.StateListening || s[1].State != proxy.StateDegraded || s[2].State != proxy.StateListening {
		t.Errorf("states %s %s %s", s[0].State, s[1].State, s[2].State)
	}
	most := int64(1) // and one more whenever the time it is put off for is over
	for off, until := time.Second, time.Second; time.Since(began) >= until; most++ {
		off *= 2
		until += off
	}
	if n := s[1].Stats.DialErrors; n < 1 || n > most {
		t.Errorf("%d attempts at a destination that was put off, want at most %d", n, most)
	}
	// It comes back, and is tried again once its time has come.
	serve(t, listened(t, hostListen(dests[1])), say("1"))
	for until := time.Now().Add(patience); ; {
		if got, _ := ask(t, w.peerDial(port)); got == "1" {
			break
		}
		if time.Now().After(until) {
			t.Fatal("never tried again")
		}
		time.Sleep(10 * time.Millisecond) // the put-off time runs on the clock
	}
	w.listening(1)
}

func TestCheck(t *testing.T) {
	inWorlds(t, func(t *testing.T, w *world) {
		w.start(time.Second)
		good, dead := w.ends("ingress"), w.ends("egress")
		serve(t, listened(t, good.listen), echo)
		busy := need.Port(t)
		defer listened(t, hostListen(busy)).Close()
		results := w.engine.Check(context.Background(), parse(t,
			good.line(""), dead.line(""),
			fmt.Sprintf("egress tcp:%d:db:80", busy),
			fmt.Sprintf("egress udp:%d:nobody.nexd.internal:53", need.Port(t))))
		if !results[0].OK() || len(results[0].Listening) != len(w.own) {
			t.Errorf("good rule: %+v", results[0])
		}
		if results[1].Listen != nil || !errors.Is(results[1].Dial, syscall.ECONNREFUSED) {
			t.Errorf("dead destination: %+v", results[1])
		}
		if !errors.Is(results[2].Listen, syscall.EADDRINUSE) {
			t.Errorf("port in use: %+v", results[2])
		}
		if results[3].Dial == nil || results[3].Listen != nil {
			t.Errorf("unknown device: %+v", results[3])
		}
		// Nothing stays open.
		w.apply(good.line(""))
		w.listening(0)
	})
}

func TestStatusBeforeRun(t *testing.T) {
	e := proxy.New(proxy.Config{Mesh: loopbackMesh{}, Directory: &directory{}})
	e.Apply(parse(t, "egress tcp:18099:db:80"))
	if s := e.Status(); len(s) != 1 || s[0].State != proxy.StateFailed {
		t.Errorf("status %+v", s)
	}
	e.Drain(context.Background())
}
