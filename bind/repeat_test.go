package bind

import (
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.zx2c4.com/wireguard/conn"

	"nexd/internal/relaypath"
)

// numbered is a WireGuard message that bears a number in front: a sender's in
// handshake messages, a receiver's in others.
func numbered(kind byte, number uint32) []byte {
	size := map[byte]int{1: 148, 2: 92, 3: 64, 4: 64}[kind]
	m := message(kind, size, 0)
	binary.LittleEndian.PutUint32(m[4:], number)
	return m
}

// response answers the initiation of a number.
func response(to, number uint32) []byte {
	m := numbered(2, number)
	binary.LittleEndian.PutUint32(m[8:], to)
	return m
}

// repeating runs a test in simulated time, with a peer at here.
func repeating(t *testing.T, run func(t *testing.T, f *fakeSocket, b *Bind, ep *Endpoint)) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeSocket{}
		b := opened(t, f, Config{Relays: &fakeRelays{}})
		peer := newPeer()
		setPath(b, peer, here)
		run(t, f, b, peerEndpoint(t, b, peer))
	})
}

// wait lets simulated time pass.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestRepeatSchedule(t *testing.T) {
	for _, kind := range []byte{1, 2} {
		repeating(t, func(t *testing.T, f *fakeSocket, b *Bind, ep *Endpoint) {
			var mu sync.Mutex
			var at []time.Duration
			start := time.Now()
			f.onSend = func([][]byte, *conn.StdNetEndpoint) error {
				mu.Lock()
				defer mu.Unlock()
				at = append(at, time.Since(start))
				return nil
			}
			b.Send([][]byte{numbered(kind, 5)}, ep)
			wait(10 * time.Second)
			if want := append([]time.Duration{0}, repeatAfter[:]...); !slices.Equal(at, want) {
				t.Errorf("sent at %v, want %v", at, want)
			}
			if b.repeats.pending.Load() != 0 || b.Stats().Repeated != 4 {
				t.Error("something is left")
			}
		})
	}
}

func TestWhatEndsRepeats(t *testing.T) {
	for name, c := range map[string]struct {
		sent, answer []byte
		ends         bool
	}{
		"initiation, response":                 {numbered(1, 5), response(5, 9), true},
		"initiation, cookie":                   {numbered(1, 5), numbered(3, 5), true},
		"initiation, data of its session":      {numbered(1, 5), numbered(4, 5), true},
		"initiation, data of an older session": {numbered(1, 5), numbered(4, 6), false},
		"initiation, another's response":       {numbered(1, 5), response(6, 9), false},
		"response, data":                       {numbered(2, 5), numbered(4, 5), true},
		"response, cookie":                     {numbered(2, 5), numbered(3, 5), true},
		"response, an initiation again":        {numbered(2, 5), numbered(1, 5), false},
		"response, data of an older session":   {numbered(2, 5), numbered(4, 6), false},
	} {
		repeating(t, func(t *testing.T, f *fakeSocket, b *Bind, ep *Endpoint) {
			b.Send([][]byte{c.sent}, ep)
			wait(200 * time.Millisecond)
			sorted(b, c.answer)
			f.take()
			wait(5 * time.Second)
			if ended := len(f.take()) == 0; ended != c.ends {
				t.Errorf("%s: repeats ended: %v, want %v", name, ended, c.ends)
			}
		})
	}
}

func TestRepeatsFollowTheRoute(t *testing.T) {
	repeating(t, func(t *testing.T, f *fakeSocket, b *Bind, ep *Endpoint) {
		relays := b.cfg.Relays.(*fakeRelays)
		b.Send([][]byte{numbered(1, 5)}, ep)
		setPath(b, ep.key, noAddr)
		f.take()
		wait(200 * time.Millisecond)
		if len(f.take()) != 0 {
			t.Error("repeated without a path")
		}
		b.SetRoute(ep.key, Route{Path: relaypath.Addr(1), Spare: there})
		if len(f.take()) != 1 || len(relays.take()) != 1 {
			t.Error("a new route does not take the message along")
		}
		wait(200 * time.Millisecond)
		if len(f.take()) != 1 || len(relays.take()) != 1 {
			t.Error("not repeated over the whole route")
		}
		// A newer message takes its place.
		b.Send([][]byte{numbered(1, 6)}, ep)
		f.take()
		wait(5 * time.Second)
		for _, m := range f.take() {
			if binary.LittleEndian.Uint32(m[4:]) != 6 {
				t.Error("an old message was repeated")
			}
		}
	})
}

func TestRepeatsEndWithThePeerAndTheSocket(t *testing.T) {
	for _, end := range []func(b *Bind, ep *Endpoint){
		func(b *Bind, ep *Endpoint) { b.Forget(ep.key) },
		func(b *Bind, _ *Endpoint) { b.Close() },
	} {
		repeating(t, func(t *testing.T, f *fakeSocket, b *Bind, ep *Endpoint) {
			b.Send([][]byte{numbered(1, 5)}, ep)
			end(b, ep)
			f.take()
			wait(5 * time.Second)
			if len(f.take()) != 0 || b.repeats.pending.Load() != 0 {
				t.Error("repeated after the end")
			}
		})
	}
}

// A message that waited for its path is repeated as of then.
func TestHeldMessageIsRepeated(t *testing.T) {
	repeating(t, func(t *testing.T, f *fakeSocket, b *Bind, ep *Endpoint) {
		setPath(b, ep.key, noAddr)
		b.Send([][]byte{numbered(1, 5)}, ep)
		wait(3 * time.Second)
		setPath(b, ep.key, here)
		wait(10 * time.Second)
		if n := len(f.take()); n != 5 {
			t.Errorf("sent %d times, want 5", n)
		}
	})
}

// A response that comes again says that our first packets were lost.
func TestFirstPacketsAreSentAgain(t *testing.T) {
	repeating(t, func(t *testing.T, f *fakeSocket, b *Bind, ep *Endpoint) {
		b.Send([][]byte{numbered(1, 5)}, ep)
		sorted(b, response(5, 9))
		b.Send([][]byte{numbered(4, 8)}, ep) // of the session before
		b.Send([][]byte{numbered(4, 9), numbered(4, 9)}, ep)
		b.Send([][]byte{numbered(4, 9)}, ep) // a later one
		f.take()
		wait(50 * time.Millisecond)
		sorted(b, response(5, 9)) // the copy that came by another way
		wait(0)
		if n := len(f.take()); n != 0 {
			t.Errorf("%d packets sent again at once", n)
		}
		wait(100 * time.Millisecond)
		sorted(b, response(5, 9))
		wait(0)
		if n := len(f.take()); n != 2 {
			t.Errorf("%d packets sent again, want the first 2", n)
		}
		wait(5 * time.Second)
		sorted(b, response(5, 9))
		wait(0)
		if n := len(f.take()); n != 0 || b.repeats.pending.Load() != 0 || ep.confirms.Load() != nil {
			t.Error("something was kept")
		}
	})
}

// A copy that comes by another way at once is not WireGuard's; a repeat is.
func TestCopies(t *testing.T) {
	repeating(t, func(t *testing.T, _ *fakeSocket, b *Bind, ep *Endpoint) {
		if got := sorted(b, numbered(1, 5), frame(1, ep.key, numbered(1, 5)), numbered(1, 5)); len(got) != 1 {
			t.Errorf("%d initiations passed on, want 1", len(got))
		}
		other := numbered(1, 5)
		other[8] = 1
		if len(sorted(b, other)) != 1 {
			t.Error("another initiation was dropped")
		}
		wait(confirmGap + time.Millisecond)
		if len(sorted(b, numbered(1, 5))) != 1 {
			t.Error("a repeat was dropped")
		}
		b.Send([][]byte{numbered(1, 7)}, ep)
		if got := sorted(b, response(7, 1), response(7, 2), response(8, 1)); len(got) != 2 {
			t.Errorf("%d responses passed on, want 2", len(got))
		}
		wait(time.Second)
		if len(sorted(b, response(7, 1))) != 0 {
			t.Error("a repeated response was passed on: WireGuard may not take it twice")
		}
		forged := response(7, 1)
		forged[50] = 1
		if len(sorted(b, forged)) != 1 {
			t.Error("only the copy of a response may be dropped")
		}
		if n := b.Stats().Copies; n != 4 {
			t.Errorf("%d copies, want 4", n)
		}
	})
}

// Of two initiations that cross only one gets through, and not for ever.
func TestCrossingInitiations(t *testing.T) {
	repeating(t, func(t *testing.T, _ *fakeSocket, b *Bind, ep *Endpoint) {
		b.Send([][]byte{numbered(1, 5)}, ep)
		if len(sorted(b, numbered(1, 4))) != 0 || b.Stats().Crossed != 1 {
			t.Error("the smaller one was not dropped")
		}
		if len(sorted(b, numbered(1, 6))) != 1 {
			t.Error("the greater one was dropped")
		}
		if b.Activity(ep.key).RxBytes != 2*148 {
			t.Error("the peer was not heard of")
		}
		wait(crossFor)
		if len(sorted(b, numbered(1, 4))) != 1 {
			t.Error("dropped for too long")
		}
	})
	repeating(t, func(t *testing.T, _ *fakeSocket, b *Bind, ep *Endpoint) {
		b.Send([][]byte{numbered(1, 5)}, ep)
		sorted(b, response(5, 9))
		if len(sorted(b, numbered(1, 4))) != 1 {
			t.Error("dropped though ours was answered")
		}
		b.Send([][]byte{numbered(2, 5)}, ep)
		wait(confirmGap + time.Millisecond)
		if len(sorted(b, numbered(1, 4))) != 1 {
			t.Error("dropped though we sent a response")
		}
	})
}

// WireGuard has an initiation of the peer and makes one itself: if it answers
// the peer's, ours would only undo that.
func TestInitiationYieldsToAnAnswer(t *testing.T) {
	repeating(t, func(t *testing.T, f *fakeSocket, b *Bind, ep *Endpoint) {
		sorted(b, numbered(1, 4))
		b.Send([][]byte{numbered(1, 5)}, ep)
		if n := len(f.take()); n != 0 {
			t.Errorf("%d initiations sent at once", n)
		}
		if len(sorted(b, numbered(1, 3))) != 0 || b.Stats().Copies != 1 {
			t.Error("a copy was passed on")
		}
		b.Send([][]byte{numbered(2, 6)}, ep)
		if n := len(f.take()); n != 1 {
			t.Errorf("%d responses sent", n)
		}
		sorted(b, numbered(4, 6))
		wait(5 * time.Second)
		if n := len(f.take()); n != 0 {
			t.Errorf("the initiation was sent after the answer: %d", n)
		}
		// Without an answer ours goes out after all, with its repeats.
		sorted(b, numbered(1, 4))
		wait(400 * time.Millisecond) // WireGuard has not come to it: the machine is loaded
		b.Send([][]byte{numbered(1, 7)}, ep)
		if n := len(f.take()); n != 0 {
			t.Errorf("%d initiations sent at once, late", n)
		}
		wait(yieldWait)
		if n := len(f.take()); n != 1 {
			t.Errorf("%d initiations sent, want 1", n)
		}
		wait(5 * time.Second)
		if n := len(f.take()); n != 4 {
			t.Errorf("repeated %d times, want 4", n)
		}
		// With an answer given there is nothing to yield to.
		sorted(b, numbered(1, 4))
		b.Send([][]byte{numbered(2, 8)}, ep)
		b.Send([][]byte{numbered(1, 9)}, ep)
		if n := len(f.take()); n != 2 {
			t.Errorf("%d messages sent, want 2", n)
		}
	})
}
