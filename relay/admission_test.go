package relay

import (
	"net/netip"
	"testing"
	"time"

	"nexd/key"
)

// Who is refused, is told why, and nothing of it is forwarded.
func TestRefuses(t *testing.T) {
	r := newRelay(t)
	other := newService(t)
	mine := key.NewPrivate()
	good := r.service.credential(mine.Public(), "net", time.Hour)
	tampered := func(at int) []byte {
		b := append([]byte(nil), good...)
		b[at] ^= 1
		return b
	}
	for name, c := range map[string]struct {
		credential []byte
		want       Refusal
	}{
		"of another service":        {other.credential(mine.Public(), "net", time.Hour), RefusedCredential},
		"tampered device":           {tampered(5), RefusedCredential},
		"tampered network":          {tampered(40), RefusedCredential},
		"tampered expiry":           {tampered(56), RefusedCredential},
		"tampered issuer":           {tampered(58), RefusedCredential},
		"tampered signature":        {tampered(100), RefusedCredential},
		"another version":           {tampered(0), RefusedCredential},
		"expired":                   {r.service.credential(mine.Public(), "net", -ClockTolerance-2*time.Second), RefusedExpired},
		"for longer than there is":  {r.service.credential(mine.Public(), "net", MaxLifetime+ClockTolerance+time.Minute), RefusedFuture},
		"of another device":         {r.service.credential(key.NewPrivate().Public(), "net", time.Hour), RefusedProof},
		"of no device":              {make([]byte, credentialSize), RefusedCredential},
		"with a key of low order":   {lowOrder(r.service), RefusedCredential},
		"expired, within tolerance": {r.service.credential(mine.Public(), "net", -ClockTolerance/2), 0},
		"as it should be":           {good, 0},
	} {
		t.Run(name, func(t *testing.T) {
			x := r.raw(mine, c.credential)
			x.challenge()
			x.put(x.out[0])
			if c.want == 0 {
				x.want(FrameWelcome)
				return
			}
			if out := x.handle(time.Now(), x.want(FrameRefuse)); out.event != evRefused || out.refusal != c.want {
				t.Errorf("%+v, want %s", out, c.want)
			}
		})
	}
	if s := r.server.Stats(); s.Admitted != 2 || s.Replaced != 1 {
		t.Errorf("stats %+v", s)
	}
}

func lowOrder(s service) []byte {
	var one [key.Size]byte
	one[0] = 1
	k, err := key.PublicFromBytes(one[:])
	if err != nil {
		panic(err)
	}
	return s.credential(k, "net", time.Hour)
}

// The client's word: a refusal reaches whoever looks at the status.
func TestClientSaysWhyItIsRefused(t *testing.T) {
	r := newRelay(t)
	p := key.NewPrivate()
	r.node("net", onlyUDP, withKey(p), withCredential(newService(t).credential(p.Public(), "net", time.Hour))).refusedFor(RefusedCredential)
}

// A client with a wrong idea of the relay's key takes nobody for its relay.
func TestRelayProvesItself(t *testing.T) {
	r := newRelay(t)
	n := r.node("net", func(_ *testNode, c *ClientConfig) { c.Relay = key.NewPrivate().Public() })
	waitFor(t, "the refusal", func() bool { return r.server.Stats().Refused[RefusedProof] > 0 })
	if s := n.Status(); s.Transport != NoTransport {
		t.Errorf("connected: %+v", s)
	}
	// And a relay that has the address but not the key cannot make a welcome.
	m := machine{secret: &[32]byte{1}, epoch: func(uint64) uint64 { return 1 }}
	m.start(time.Now(), make([]byte, credentialSize))
	m.handle(time.Now(), challenge{Echo: m.nonce}.appendTo(nil))
	forged := welcome{Nonce: m.nonce, Tag: 1, Epoch: 1, Lifetime: time.Hour, Channels: 4}.appendTo(nil)
	if out := m.handle(time.Now(), append(forged, make([]byte, macSize)...)); out.event != evNone || m.up {
		t.Errorf("a forged welcome: %+v", out)
	}
	m.handle(time.Now(), append(refusal{Reason: RefusedStale, Nonce: m.nonce, Value: 1 << 63}.appendTo(nil), make([]byte, macSize)...))
	if m.stale != 0 {
		t.Error("a forged refusal moved the epoch")
	}
}

func TestCookieIsOfAnAddress(t *testing.T) {
	r := newRelay(t)
	p := key.NewPrivate()
	x := r.raw(p, r.service.credential(p.Public(), "net", time.Hour))
	x.challenge()
	auth := x.out[0]
	x.move()
	x.put(auth)
	if b := x.get(patience); FrameType(b[0]) != FrameChallenge {
		t.Fatalf("a cookie of another address brought %s", FrameType(b[0]))
	}
	if s := r.server.Stats(); s.Admitted != 0 || s.SessionsUDP != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestCookieRunsOut(t *testing.T) {
	now := time.Now()
	c := newCookies(now)
	at := randomPlace()
	k := c.make(at, now.Add(5*time.Second))
	for d, want := range map[time.Duration]bool{0: false, 5 * time.Second: true, 5*time.Second + cookieLife: true, 6*time.Second + cookieLife: false, time.Hour: false} {
		if got := c.check(k, at, now.Add(d)); got != want {
			t.Errorf("after %s: %t", d, got)
		}
	}
	k[3] ^= 1
	if c.check(k, at, now.Add(5*time.Second)) {
		t.Error("another time was accepted")
	}
}

// An auth somebody saw and sends again, with the sender's address forged,
// moves nothing back and brings no session to life.
func TestReplayedAdmission(t *testing.T) {
	r := newRelay(t)
	p := key.NewPrivate()
	x := r.raw(p, r.service.credential(p.Public(), "net", time.Hour))
	x.challenge()
	first := x.out[0]
	x.join() // with a later epoch
	old := x.session
	x.put(first)
	if got, err := parseRefusal(x.want(FrameRefuse)); err != nil || got.Reason != RefusedStale {
		t.Errorf("replayed: %+v, %v", got, err)
	}
	x.settle()
	second := x.sentAuth
	x.put(x.leave())
	waitFor(t, "the end", func() bool { return r.server.Stats().SessionsUDP == 0 })
	x.put(second)
	if got, err := parseRefusal(x.want(FrameRefuse)); err != nil || got.Reason != RefusedStale {
		t.Errorf("replayed after the end: %+v, %v", got, err)
	}
	if r.server.Stats().SessionsUDP != 0 || old != x.session {
		t.Error("the replay made a session")
	}
}

// A lost welcome is sent again for the same auth, and nothing else happens.
func TestLostWelcome(t *testing.T) {
	r := newRelay(t)
	p := key.NewPrivate()
	x := r.raw(p, r.service.credential(p.Public(), "net", time.Hour))
	x.challenge()
	x.put(x.out[0])
	one := string(x.want(FrameWelcome))
	x.put(x.out[0])
	if two := string(x.want(FrameWelcome)); one != two {
		t.Error("the second welcome is another")
	}
	if s := r.server.Stats(); s.Admitted != 1 || s.Moved != 0 {
		t.Errorf("stats %+v", s)
	}
}

// A clock that went back: the relay says, proved, which epoch it has seen.
func TestClockWentBack(t *testing.T) {
	r := newRelay(t)
	p := key.NewPrivate()
	cred := r.service.credential(p.Public(), "net", time.Hour)
	a := r.raw(p, cred)
	a.epochs = 1 << 62
	a.join()
	b := r.raw(p, cred)
	b.epochs = 1
	b.challenge()
	b.put(b.out[0])
	b.out = nil
	b.handle(time.Now(), b.want(FrameRefuse))
	if len(b.out) != 1 {
		t.Fatal("no new try")
	}
	b.put(b.out[0])
	if out := b.handle(time.Now(), b.want(FrameWelcome)); out.event != evUp {
		t.Errorf("%+v", out)
	}
}

// No datagram of an address without a session brings an answer longer than itself.
func TestNeverAmplifies(t *testing.T) {
	r := newRelay(t)
	p := key.NewPrivate()
	x := r.raw(p, r.service.credential(p.Public(), "net", time.Hour))
	for kind := 0xC0; kind <= 0xFF; kind++ {
		for _, n := range []int{1, 2, 4, 7, 8, 16, 31, 32, 33, 40, 63, 64, 100, authSize, 1200} {
			b := make([]byte, n)
			b[0] = byte(kind)
			if n > 1 {
				b[1] = ProtocolVersion
			}
			if kind == int(FrameAuth) && n == authSize {
				b[3] = credentialSize
			}
			x.put(b)
			x.put(appendHello(nil, nonce{byte(kind), byte(n)}))
			for {
				got := x.want(FrameChallenge)
				if c, err := parseChallenge(got); err == nil && c.Echo == (nonce{byte(kind), byte(n)}) {
					break
				}
				if len(got) > n {
					t.Fatalf("%d bytes of type %#x brought %d", n, kind, len(got))
				}
			}
		}
	}
}

// Who asks for cookies without end gets no more than its share of answers, and
// leaves room for others.
func TestChallengesAreBounded(t *testing.T) {
	s, err := NewServer(ServerConfig{Private: key.NewPrivate(), Issuers: issuers{newService(t).public}})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(a string, now time.Duration) bool {
		from := netip.MustParseAddr(a)
		return len(s.challenge(nil, nonce{}, placeOf(netip.AddrPortFrom(from, 1)), from, int64(now))) == challengeSize
	}
	count := func(now time.Duration, addrs ...string) (n int) {
		for i := range 5000 {
			if ask(addrs[i%len(addrs)], now) {
				n++
			}
		}
		return n
	}
	if n := count(0, "192.0.2.1"); n != 1000 {
		t.Errorf("%d answers at once", n)
	}
	if n := count(time.Second, "192.0.2.1"); n != 500 {
		t.Errorf("%d answers a second later", n)
	}
	if n := count(time.Second, "2001:db8::1", "2001:db8::2", "2001:db8::ffff:1"); n != 1000 {
		t.Errorf("%d answers to one /64", n)
	}
	if !ask("198.51.100.1", time.Second) {
		t.Error("no answer to somebody else")
	}
}

// Frames that pretend to come from the relay, but answer nothing the client
// asked, do not reach the goroutine that keeps the session.
func TestClientIgnoresForgedAdmissions(t *testing.T) {
	r := newRelay(t)
	n := r.node("net", onlyUDP).connected(UDP)
	for i := range 1000 {
		echo := nonce{byte(i), byte(i >> 8), 1}
		n.HandleUDP(challenge{Echo: echo}.appendTo(nil), r.udp)
		n.HandleUDP(append(welcome{Nonce: echo}.appendTo(nil), make([]byte, macSize)...), r.udp)
		n.HandleUDP(append(refusal{Nonce: echo, Reason: RefusedFull}.appendTo(nil), make([]byte, macSize)...), r.udp)
		n.HandleUDP(append(appendBye(nil, n.tag+1, ByeClosing), make([]byte, macSize)...), r.udp)
		if len(n.inbox) > 2 {
			t.Fatal("forged frames wait for Run")
		}
	}
	// With the tag, which only who sees the packets knows, still without the key.
	n.HandleUDP(append(appendBye(nil, n.tag, ByeClosing), make([]byte, macSize)...), r.udp)
	other := r.node("net", onlyUDP)
	n.reaches(other, "still here")
	if r.server.Stats().Admitted != 2 {
		t.Error("the session was lost")
	}
}
