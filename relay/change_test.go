package relay

import (
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"nexd/key"
	"nexd/test/need"
)

// A NAT gives the client another address: one round trip later all is as before.
func TestRebind(t *testing.T) {
	r := newRelay(t)
	a, b := r.node("net", onlyUDP), r.node("net", onlyUDP)
	a.reaches(b, "before")
	a.agreed(b)
	b.agreed(a)
	generation := a.up.Load().generation
	for range 5 {
		a.listen()
		a.reaches(b, "from the new address")
		b.reaches(a, "to the new address")
	}
	if got := a.up.Load().generation; got != generation {
		t.Error("the session is another")
	}
	if s := r.server.Stats(); s.Moved < 5 || s.Admitted != 2 {
		t.Errorf("stats %+v", s)
	}
}

// Nothing is sent to a new address, and nothing from it believed, before the proof.
func TestRebindNeedsProof(t *testing.T) {
	r := newRelay(t)
	b := r.node("net", onlyUDP).connected(UDP)
	p := key.NewPrivate()
	x := r.raw(p, r.service.credential(p.Public(), "net", time.Hour)).join()
	x.move()
	x.put(x.data(b.public(), "not yet"))
	c := x.want(FrameChallenge)
	b.Send(p.Public(), [][]byte{text("not yet")})
	if got := x.get(50 * time.Millisecond); got != nil {
		t.Errorf("got %s before the proof", FrameType(got[0]))
	}
	if contains(b.drained(), "not yet") {
		t.Error("forwarded before the proof")
	}
	if x.handle(time.Now(), c); len(x.out) != 1 {
		t.Fatal("no proof")
	}
	x.put(x.out[0])
	if out := x.handle(time.Now(), x.want(FrameWelcome)); out.event != evResumed {
		t.Errorf("%+v", out)
	}
	x.put(x.data(b.public(), "now"))
	waitFor(t, "the packet", func() bool { return contains(b.drained(), "now") })
}

// A relay that is restarted costs packets, and nothing else.
func TestRestart(t *testing.T) {
	r := newRelay(t)
	r.stop()
	r.start(fmt.Sprintf("127.0.0.1:%d", need.Port(t))) // one that nobody is given meanwhile
	a, b := r.node("net", onlyUDP), r.node("net", onlyTLS)
	a.reaches(b, "before")
	b.reaches(a, "before")
	for range 2 {
		address := r.udp.String()
		r.stop()
		r.start(address)
		a.reaches(b, "after")
		b.reaches(a, "after")
	}
}

// A relay that dies without a word is noticed: quickly by who sends.
func TestSilence(t *testing.T) {
	r := newRelay(t)
	a := r.node("net", onlyUDP).connected(UDP)
	a.mute.Store(true)
	began := time.Now()
	waitFor(t, "the loss", func() bool {
		a.Send(key.NewPrivate().Public(), [][]byte{text("into the void")})
		return a.Status().Transport == NoTransport
	})
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("noticed after %s", took)
	}
	a.mute.Store(false)
	a.connected(UDP)
}

// UDP does not answer: TLS serves, and UDP again when it can.
func TestFallsBackAndReturns(t *testing.T) {
	r := newRelay(t)
	a, b := r.node("net", mutedUDP), r.node("net", onlyUDP)
	a.connected(TLS)
	a.reaches(b, "by tls")
	b.reaches(a, "by tls")
	a.mute.Store(false)
	a.Wake()
	a.connected(UDP)
	a.reaches(b, "by udp")
	b.reaches(a, "by udp")
	a.mute.Store(true)
	waitFor(t, "tls again", func() bool {
		a.Send(b.public(), [][]byte{text("?")})
		return a.Status().Transport == TLS
	})
	a.reaches(b, "by tls again")
	b.reaches(a, "by tls again")
}

// A credential is renewed within the session; without a new one the session ends with it.
func TestCredentialEnds(t *testing.T) {
	for name, option := range map[string]nodeOption{"udp": onlyUDP, "tls": onlyTLS} {
		t.Run(name, func(t *testing.T) {
			var shift atomic.Int64
			r := newRelay(t, func(r *testRelay) {
				r.clock = func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
				r.limits.Idle = 100 * time.Hour
			})
			a, b := r.node("net", option), r.node("net", option)
			a.reaches(b, "before")
			fresh := r.service.credential(a.public(), "net", 3*time.Hour)
			a.cred.Store(&fresh)
			waitFor(t, "the renewal", func() bool { a.Wake(); return r.server.Stats().Moved > 0 })
			shift.Store(int64(2 * time.Hour))
			waitFor(t, "the end of b", func() bool {
				s := r.server.Stats()
				return s.SessionsUDP+s.SessionsTLS == 1 && b.Status().Transport == NoTransport
			})
			if a.Status().Transport == NoTransport {
				t.Error("the renewed session ended too")
			}
			waitFor(t, "the refusal", func() bool { return r.server.Stats().Refused[RefusedExpired] > 0 })
			fresh = r.service.credential(b.public(), "net", 3*time.Hour)
			b.cred.Store(&fresh)
			b.Wake()
			b.reaches(a, "again")
		})
	}
}

func TestIdleSessionsEnd(t *testing.T) {
	var shift atomic.Int64
	r := newRelay(t, func(r *testRelay) {
		r.clock = func() time.Time { return time.Now().Add(time.Duration(shift.Load())) }
	})
	p := key.NewPrivate()
	x := r.raw(p, r.service.credential(p.Public(), "net", time.Hour)).join()
	shift.Store(int64(59 * time.Second))
	x.settle()
	shift.Store(int64(2 * 59 * time.Second))
	r.server.tidyOnce()
	if r.server.Stats().SessionsUDP != 1 {
		t.Fatal("ended too early")
	}
	shift.Store(int64(2*59*time.Second + 2*time.Second))
	r.server.tidyOnce()
	if out := x.handle(time.Now(), x.want(FrameBye)); out.bye != ByeIdle {
		t.Errorf("%+v", out)
	}
	if r.server.Stats().SessionsUDP != 0 {
		t.Error("still there")
	}
}

func TestDrain(t *testing.T) {
	r := newRelay(t)
	a, b := r.node("net", onlyUDP).connected(UDP), r.node("net", onlyTLS).connected(TLS)
	r.server.Drain()
	waitFor(t, "the news", func() bool { return a.Status().Draining && b.Status().Draining })
	a.reaches(b, "still works")
	late := r.node("net", onlyUDP)
	waitFor(t, "the refusal", func() bool { return r.server.Stats().Refused[RefusedDraining] > 0 })
	if late.Status().Transport != NoTransport {
		t.Error("admitted while draining")
	}
	a.listen()
	a.reaches(b, "moves while draining")
}

func TestCaps(t *testing.T) {
	r := newRelay(t, func(r *testRelay) { r.limits = Limits{Sessions: 3, NetworkSessions: 2} })
	r.node("one", onlyUDP).connected(UDP)
	second := r.node("one", onlyTLS).connected(TLS)
	third := r.node("one", onlyUDP).refusedFor(RefusedFull)
	r.node("two", onlyUDP).connected(UDP)
	fourth := r.node("three", onlyUDP).refusedFor(RefusedFull)
	if third.Status().Transport != NoTransport || fourth.Status().Transport != NoTransport {
		t.Error("one too many")
	}
	second.stop()
	waitFor(t, "room", func() bool { return r.server.Stats().SessionsTLS == 0 })
	third.Wake()
	third.connected(UDP)
}

func TestEnd(t *testing.T) {
	r := newRelay(t)
	a := r.node("net", onlyUDP).connected(UDP)
	r.server.End(NetworkOf("another"), a.public())
	if r.server.Stats().SessionsUDP != 1 {
		t.Fatal("ended in another network")
	}
	r.server.End(NetworkOf("net"), a.public())
	waitFor(t, "the end", func() bool { return a.Status().Transport == NoTransport })
}
