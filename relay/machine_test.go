package relay

import (
	"testing"
	"time"
)

// clocked is a machine and a relay's side of it under a simulated clock.
type clocked struct {
	machine
	now, heard, sent time.Time
	cred             []byte
}

func newClocked() *clocked {
	c := &clocked{now: time.Unix(1_800_000_000, 0), cred: make([]byte, credentialSize)}
	epoch := uint64(0)
	c.machine = machine{secret: &[32]byte{7}, tag: 9, quick: quickUDP, epoch: func(above uint64) uint64 {
		epoch = max(epoch, above) + 1
		return epoch
	}}
	return c
}

// answer does what a relay would with an auth.
func (c *clocked) answer(t *testing.T, resumed bool) outcome {
	t.Helper()
	a, err := parseAuth(c.out[len(c.out)-1])
	if err != nil {
		t.Fatal(err)
	}
	b := welcome{Resumed: resumed, Nonce: a.Nonce, Tag: 77, Epoch: a.Epoch, Lifetime: time.Hour, Channels: 8}.appendTo(nil)
	m := prove(c.secret, macWelcome, a.MAC[:], b)
	c.out = nil
	return c.handle(c.now, append(b, m[:]...))
}

func (c *clocked) connect(t *testing.T) *clocked {
	t.Helper()
	c.start(c.now, c.cred)
	c.handle(c.now, challenge{Echo: c.nonce}.appendTo(nil))
	if out := c.answer(t, false); out.event != evUp {
		t.Fatalf("%+v", out)
	}
	c.heard = c.now
	return c
}

// run lets time pass until the machine has something to say, and returns how long it took.
func (c *clocked) run(t *testing.T, limit time.Duration, each func(*clocked)) (outcome, time.Duration) {
	t.Helper()
	began := c.now
	for c.now.Sub(began) <= limit {
		out, next := c.tick(c.now, c.heard, c.sent, c.cred)
		if out.event != evNone {
			return out, c.now.Sub(began)
		}
		if each != nil {
			each(c)
		}
		if !next.After(c.now) {
			next = c.now.Add(time.Millisecond)
		}
		c.now = next
	}
	return outcome{}, limit
}

func TestMachineGivesUp(t *testing.T) {
	c := newClocked()
	c.start(c.now, c.cred)
	out, took := c.run(t, time.Minute, nil)
	if out.event != evLost || took != proofPatience || len(c.out) != 4 {
		t.Errorf("%+v after %s and %d hellos", out, took, len(c.out))
	}
}

func TestMachineFindsSilence(t *testing.T) {
	c := newClocked().connect(t)
	if out, took := c.run(t, time.Hour, nil); out.event != evLost || took != idlePing+2*idleTimeout {
		t.Errorf("idle: %+v after %s", out, took)
	}
	c = newClocked().connect(t)
	c.rtt = 20 * time.Millisecond
	c.now = c.now.Add(time.Millisecond)
	c.sent = c.now
	began, suspect := c.now, time.Duration(0)
	out, took := c.run(t, time.Hour, func(c *clocked) {
		c.sent = c.now
		if c.suspect && suspect == 0 {
			suspect = c.now.Sub(began)
		}
	})
	if out.event != evLost || took > 1500*time.Millisecond || suspect == 0 || suspect > 700*time.Millisecond {
		t.Errorf("in use: %+v after %s, suspect after %s", out, took, suspect)
	}
}

// Packets that follow each other closely do not wake the machine; it looks
// nevertheless when the relay could have become silent.
func TestMachineLooksWhileBusy(t *testing.T) {
	c := newClocked().connect(t)
	c.rtt = 20 * time.Millisecond
	c.now = c.now.Add(time.Second)
	c.sent, c.heard = c.now.Add(-10*time.Millisecond), c.now                                         // an answer came last
	out, took := c.run(t, time.Hour, func(c *clocked) { c.sent = c.now.Add(90 * time.Millisecond) }) // until the next tick
	if out.event != evLost || took > 1500*time.Millisecond {
		t.Errorf("%+v after %s", out, took)
	}
}

// One lost ping in a stream of packets that nothing answers says nothing yet.
func TestMachineBearsALostPing(t *testing.T) {
	c := newClocked().connect(t)
	c.rtt = 20 * time.Millisecond
	n := 0
	out, _ := c.run(t, time.Minute, func(c *clocked) {
		for _, f := range c.out {
			if FrameType(f[0]) != FramePing {
				continue
			}
			if n++; n%2 == 0 {
				c.now = c.now.Add(20 * time.Millisecond)
				c.heard = c.now
			}
		}
		c.out, c.sent = nil, c.now.Add(time.Nanosecond)
		if c.suspect {
			t.Fatal("suspect after one lost ping")
		}
	})
	if out.event != evNone {
		t.Errorf("%+v", out)
	}
}

// Answers keep it up: ten minutes cost 60 pings when idle.
func TestMachineStaysUp(t *testing.T) {
	c := newClocked().connect(t)
	pings := 0
	out, _ := c.run(t, 10*time.Minute, func(c *clocked) {
		for _, f := range c.out {
			if FrameType(f[0]) == FramePing {
				pings++
				stamp, _ := parseStamp(f)
				c.now = c.now.Add(30 * time.Millisecond)
				c.handle(c.now, appendPong(nil, c.tag, stamp))
				c.heard = c.now
			}
		}
		c.out = nil
	})
	if out.event != evNone || pings < 58 || pings > 61 || c.rtt < 5*time.Millisecond || c.rtt > 31*time.Millisecond {
		t.Errorf("%+v, %d pings, rtt %s", out, pings, c.rtt)
	}
}

// On a long way, or from a slow relay, the answers to a hello that was sent
// again come as well. One of them is taken: each proof more would be a session
// that replaces the one before.
func TestMachineProvesOnceForManyHellos(t *testing.T) {
	const way = 700 * time.Millisecond
	c := newClocked()
	c.start(c.now, c.cred)
	var answers []time.Time // when the relay's challenges are here
	proofs := 0
	for end := c.now.Add(3 * way); c.now.Before(end); c.now = c.now.Add(10 * time.Millisecond) {
		for len(answers) > 0 && !answers[0].After(c.now) {
			answers = answers[1:]
			c.handle(c.now, challenge{Echo: c.nonce}.appendTo(nil))
		}
		c.tick(c.now, c.heard, c.sent, c.cred)
		for _, f := range c.out {
			switch FrameType(f[0]) {
			case FrameHello:
				answers = append(answers, c.now.Add(way))
			case FrameAuth:
				if a, _ := parseAuth(f); a.Epoch > uint64(proofs) {
					proofs++
				}
			}
		}
		c.out = nil
	}
	if proofs != 1 {
		t.Errorf("%d proofs", proofs)
	}
	// A challenge that answers the proof itself asks for another.
	c.handle(c.now, challenge{Echo: c.nonce}.appendTo(nil))
	if a, err := parseAuth(c.out[len(c.out)-1]); err != nil || a.Epoch != 2 {
		t.Errorf("%+v, %v", a, err)
	}
}

func TestMachineIgnoresForeignChallenges(t *testing.T) {
	c := newClocked().connect(t)
	c.handle(c.now, challenge{Echo: nonce{0xD0, 0, 0, 1, 1, 2, 3, 4}}.appendTo(nil))
	if len(c.out) != 0 {
		t.Error("it proved itself to a challenge that is not for its session")
	}
	own := challenge{Echo: nonce{0xD0, 0, 0, 1, 0, 0, 0, 77}}.appendTo(nil)
	for range 50 {
		c.handle(c.now, own)
	}
	if len(c.out) != 1 {
		t.Errorf("%d proofs for a batch of challenges", len(c.out))
	}
	if out := c.answer(t, true); out.event != evResumed || !c.up {
		t.Errorf("%+v", out)
	}
}

func TestMachineRenews(t *testing.T) {
	c := newClocked().connect(t)
	fresh := make([]byte, credentialSize)
	fresh[3] = 1
	c.cred = fresh
	c.now = c.now.Add(proofPause)
	c.heard = c.now
	c.tick(c.now, c.heard, c.sent, c.cred)
	if len(c.out) != 1 || FrameType(c.out[0][0]) != FrameHello {
		t.Fatalf("no hello: %x", c.out)
	}
	c.handle(c.now, challenge{Echo: c.nonce}.appendTo(nil))
	a, _ := parseAuth(c.out[len(c.out)-1])
	if a.Resume != 77 || a.Credential[3] != 1 {
		t.Errorf("%+v", a)
	}
	if out := c.answer(t, true); out.event != evResumed || string(c.accepted) != string(fresh) {
		t.Errorf("%+v", out)
	}
}
