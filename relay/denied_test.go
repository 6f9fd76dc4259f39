package relay

import (
	"crypto/ed25519"
	"errors"
	"testing"
	"time"

	"nexd/key"
)

// endedFor wants the relay's goodbye, though the connection breaks with it.
func (n *testNode) endedFor(why Farewell) {
	n.t.Helper()
	waitFor(n.t, "bye: "+why.String(), func() bool {
		var bye *ByeError
		return errors.As(n.Status().Err, &bye) && bye.Reason == why
	})
}

// refusedFor waits until the relay refuses the node for this reason.
func (n *testNode) refusedFor(reason Refusal) *testNode {
	n.t.Helper()
	waitFor(n.t, "the refusal: "+reason.String(), func() bool {
		var refused *RefusedError
		return errors.As(n.Status().Err, &refused) && refused.Reason == reason
	})
	return n
}

// answer is what the relay says to an admission with this credential.
func (r *testRelay) answer(t *testing.T, private key.Private, credential []byte) Refusal {
	t.Helper()
	x := r.raw(private, credential)
	x.challenge()
	x.put(x.out[0])
	frame := x.get(patience)
	if FrameType(frame[0]) == FrameWelcome {
		return 0
	}
	if out := x.handle(time.Now(), frame); out.event == evRefused {
		return out.refusal
	}
	t.Fatalf("the relay answers with %x", frame)
	return 0
}

// A denied device is out, and stays out with what it had; with a credential of
// later it is back.
func TestDeny(t *testing.T) {
	for name, by := range map[string]nodeOption{"udp": onlyUDP, "tls": onlyTLS} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t)
			private := key.NewPrivate()
			until := time.Now().Add(time.Hour).Truncate(time.Second)
			old := r.service.credential(private.Public(), "net", time.Until(until)-time.Minute)
			a, b := r.node("net", withKey(private), withCredential(old), by), r.node("net")
			waitFor(t, "sessions", func() bool { return a.Status().Transport != NoTransport && b.Status().Transport != NoTransport })

			r.server.Deny(NetworkOf("another"), private.Public(), until)
			r.server.Deny(NetworkOf("net"), private.Public(), until.Add(-time.Hour))
			a.reaches(b, "not meant")
			r.server.Deny(NetworkOf("net"), private.Public(), until)
			r.server.Deny(NetworkOf("net"), private.Public(), until.Add(-time.Minute)) // the later holds
			a.endedFor(ByeDenied)
			for _, life := range []time.Duration{time.Until(until) - time.Minute, time.Until(until)} {
				if got := r.answer(t, private, r.service.credential(private.Public(), "net", life)); got != RefusedCredential {
					t.Errorf("a credential for %v: %v", life, got)
				}
			}
			if got := r.answer(t, private, r.service.credential(private.Public(), "net", 2*time.Hour)); got != 0 {
				t.Errorf("a later credential: %v", got)
			}
			// One that came back is not put out by what was said before.
			r.server.Deny(NetworkOf("net"), private.Public(), until)
			if r.server.table.session(NetworkOf("net"), private.Public()) == nil {
				t.Error("the later session ended")
			}
			r.server.denied.tidy(until.Add(ClockTolerance))
			if len(r.server.denied.until) != 2 {
				t.Errorf("%d are left", len(r.server.denied.until))
			}
			if r.server.denied.tidy(until.Add(ClockTolerance + time.Second)); len(r.server.denied.until) != 0 {
				t.Errorf("%d are left", len(r.server.denied.until))
			}
		})
	}
}

func TestSetIssuers(t *testing.T) {
	r := newRelay(t)
	other := newService(t)
	a := r.node("net").connected(UDP)
	theirs := key.NewPrivate()
	foreign := other.credential(theirs.Public(), "net", time.Hour)
	if got := r.answer(t, theirs, foreign); got != RefusedCredential {
		t.Errorf("a stranger's: %v", got)
	}
	if err := r.server.SetIssuers([]ed25519.PublicKey{r.service.public, other.public}); err != nil {
		t.Fatal(err)
	}
	if got := r.answer(t, theirs, foreign); got != 0 {
		t.Errorf("the new service's: %v", got)
	}
	if a.Status().Transport != UDP {
		t.Error("the session of one that stays ended")
	}
	if err := r.server.SetIssuers([]ed25519.PublicKey{other.public}); err != nil {
		t.Fatal(err)
	}
	a.endedFor(ByeDenied)
	if r.server.table.session(NetworkOf("net"), theirs.Public()) == nil {
		t.Error("the session of one that stays ended")
	}
	for _, wrong := range [][]ed25519.PublicKey{{{1, 2, 3}}, make([]ed25519.PublicKey, 9)} {
		if err := r.server.SetIssuers(wrong); err == nil {
			t.Errorf("took %v", wrong)
		}
	}
	if err := r.server.SetIssuers(nil); err != nil {
		t.Fatal(err)
	}
	if got := r.answer(t, theirs, foreign); got != RefusedCredential {
		t.Errorf("with no service: %v", got)
	}
	waitFor(t, "everybody out", func() bool { st := r.server.Stats(); return st.SessionsUDP+st.SessionsTLS == 0 })
}
