package relay

import (
	"testing"
	"time"

	"nexd/key"
)

func TestOnlyWithinANetwork(t *testing.T) {
	for name, option := range map[string]nodeOption{"udp": onlyUDP, "tls": onlyTLS} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t)
			a, b, foreign := r.node("one", option), r.node("one", option), r.node("two", option)
			a.reaches(b, "inside")
			foreign.connected(a.Status().Transport)
			before := r.server.Stats().Dropped[DropAbsent]
			waitFor(t, "drops", func() bool {
				foreign.Send(b.public(), [][]byte{text("from outside")})
				a.Send(foreign.public(), [][]byte{text("to outside")})
				return r.server.Stats().Dropped[DropAbsent] > before+20
			})
			a.reaches(b, "still")
			if contains(b.drained(), "from outside") || contains(a.drained(), "from outside") || len(foreign.drained()) > 0 {
				t.Error("a packet went from one network to another")
			}
		})
	}
}

// Who knows the addresses of a session but not its tag gets nothing through.
func TestForgedTag(t *testing.T) {
	r := newRelay(t)
	b := r.node("net", onlyUDP).connected(UDP)
	p := key.NewPrivate()
	x := r.raw(p, r.service.credential(p.Public(), "net", time.Hour)).join()
	for i := range 100 {
		frame := x.data(b.public(), "forged")
		frame[4+i%4] ^= 1 << (i % 8)
		x.put(frame)
	}
	forgedBye := x.leave()
	forgedBye[byeSize-1] ^= 1
	x.put(forgedBye)
	x.put(x.data(b.public(), "true"))
	waitFor(t, "the true one", func() bool { return contains(b.drained(), "true") })
	if s := r.server.Stats(); s.Dropped[DropTag] != 100 || s.PacketsUDP > 10 || s.SessionsUDP != 2 {
		t.Errorf("stats %+v", s)
	}
}

// A frame with the right tag from another address is not believed, and nothing
// of the session moves there.
func TestStolenByAddress(t *testing.T) {
	r := newRelay(t)
	b := r.node("net", onlyUDP).connected(UDP)
	p := key.NewPrivate()
	x := r.raw(p, r.service.credential(p.Public(), "net", time.Hour)).join()
	thief := r.raw(key.NewPrivate(), x.cred)
	thief.session = x.session
	for range 20 {
		thief.put(thief.data(b.public(), "stolen"))
		thief.want(FrameChallenge)
	}
	thief.put(appendPing(nil, x.session, 7))
	thief.want(FrameChallenge)
	// The thief takes the cookie, but has not the key.
	thief.challenge()
	thief.put(thief.out[0])
	if got, err := parseRefusal(thief.want(FrameRefuse)); err != nil || got.Reason != RefusedProof {
		t.Errorf("%+v, %v", got, err)
	}
	b.Send(p.Public(), [][]byte{text("for the owner")})
	frame := x.want(FrameDataKey)
	if _, packet, err := parseKeyed(frame); err != nil || string(packet) != string(text("for the owner")) {
		t.Errorf("%q, %v", packet, err)
	}
	if contains(b.drained(), "stolen") {
		t.Error("a packet of the thief was forwarded")
	}
	if got := thief.get(50 * time.Millisecond); got != nil {
		t.Errorf("the thief got %s", FrameType(got[0]))
	}
}

// A session that was taken by its next one, of the same key, ends; without the
// key it cannot be taken.
func TestReplace(t *testing.T) {
	for name, options := range map[string][2]nodeOption{
		"udp by udp": {onlyUDP, onlyUDP}, "tls by udp": {onlyTLS, onlyUDP}, "udp by tls": {onlyUDP, onlyTLS}, "tls by tls": {onlyTLS, onlyTLS},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t)
			p := key.NewPrivate()
			b := r.node("net", onlyUDP).connected(UDP)
			first := r.node("net", options[0], withKey(p))
			first.reaches(b, "first")
			second := r.node("net", options[1], withKey(p))
			second.reaches(b, "second")
			waitFor(t, "the first one's end", func() bool { return first.Status().Transport == NoTransport })
			b.reaches(second, "to the second")
			// On a slow machine one may have asked twice, and replaced itself.
			if s := r.server.Stats(); s.Replaced < 1 || s.SessionsUDP+s.SessionsTLS != 2 {
				t.Errorf("stats %+v", s)
			}
		})
	}
}

func TestNoticesOfPresence(t *testing.T) {
	r := newRelay(t)
	a := r.node("net", onlyUDP).connected(UDP)
	p := key.NewPrivate()
	a.Send(p.Public(), [][]byte{text("too early")})
	expect := func(want Presence) {
		t.Helper()
		select {
		case got := <-a.presence:
			if got != (gotPresence{p.Public(), want}) {
				t.Errorf("%v, want %s", got, want)
			}
		case <-time.After(patience):
			t.Fatalf("no notice of %s", want)
		}
	}
	expect(PeerGone)
	b := r.node("net", onlyTLS, withKey(p))
	expect(PeerHere)
	a.reaches(b, "now")
	b.stop()
	waitFor(t, "the end", func() bool { return r.server.Stats().SessionsTLS == 0 })
	waitFor(t, "the drops", func() bool { // not more on their way than a socket holds
		for range 25 {
			a.Send(p.Public(), [][]byte{text("gone")})
		}
		return r.server.Stats().Dropped[DropAbsent] >= 500
	})
	expect(PeerGone)
	if n := len(a.presence); n > 100 {
		t.Errorf("%d notices for 500 packets", n)
	}
}

// Those who ask for absent devices fill bounded memory.
func TestAskersAreBounded(t *testing.T) {
	tab := newTable()
	n := tab.networkLocked(NetworkOf("net"))
	for i := range 3 * maxAskers {
		s := &session{network: n, tag: uint32(i)}
		for k := range 2 * maxWanted / maxAskers {
			tab.ask(s, somebody(uint32(i*maxWanted+k)), 0)
		}
	}
	if len(n.wanted) > maxWanted {
		t.Errorf("%d devices remembered", len(n.wanted))
	}
	p := somebody(0)
	n.wanted = map[key.Public][]asker{}
	for i := range 3 * maxAskers {
		s := &session{network: n, tag: uint32(i)}
		tab.ask(s, p, 0)
		tab.ask(s, p, 1)
	}
	if got := len(n.wanted[p]); got != maxAskers {
		t.Errorf("%d askers", got)
	}
	tab.tidy(2 * askFor)
	if len(tab.networks) != 0 {
		t.Error("the network is still there")
	}
}
