package discovery

import (
	"fmt"
	"testing"
	"time"
)

// TestBlackHole: the middle of the path shrinks without a word while data flows.
// The packets become small enough soon, the path is not left, and the size does
// not flap: what did not pass is tried again after a minute, then after two.
func TestBlackHole(t *testing.T) {
	for _, loss := range []float64{0, 0.02} {
		t.Run(fmt.Sprintf("%.0f %% loss", 100*loss), func(t *testing.T) {
			inWorld(t, func(t *testing.T, w *world) {
				limit := w.carries(9000)
				a, b := w.at("203.0.113.1", public), w.at("203.0.113.2", public)
				time.Sleep(2 * time.Second)
				bulk(a, b, 5*time.Second)
				if got := a.mtu(b); got != 8920 {
					t.Fatalf("packets of up to %d bytes", got)
				}
				drops, changes := a.drops, a.changes
				w.net.SetLoss(loss)
				limit.Store(1400)
				shrunk := time.Now()
				if n := bulk(a, b, 5*time.Second); loss == 0 && n > 100 {
					t.Errorf("%d packets of a hundred a second vanished", n)
				} else {
					t.Logf("%d packets vanished", n)
				}
				if got := a.mtu(b); got != 1328 {
					t.Errorf("packets of up to %d bytes, want 1328", got)
				}
				a.mu.Lock()
				for _, x := range a.mtus[b.pub] {
					if x.at.After(shrunk) {
						t.Logf("%d after %s", x.mtu, x.at.Sub(shrunk))
					}
				}
				a.mu.Unlock()
				bulk(a, b, 45*time.Second)
				limit.Store(9000)
				if got := a.mtu(b); got != 1328 {
					t.Errorf("packets of up to %d bytes before a minute is over", got)
				}
				bulk(a, b, 30*time.Second)
				if got := a.mtu(b); got != 8920 {
					t.Errorf("packets of up to %d bytes a minute later, want 8920 again", got)
				}
				limit.Store(1500)
				bulk(a, b, 10*time.Second)
				began := time.Now()
				bulk(a, b, 105*time.Second)
				if got := a.toldSince(b, began); len(got) > 0 && loss == 0 {
					t.Errorf("it flaps: %v", got)
				}
				limit.Store(9000)
				bulk(a, b, 30*time.Second)
				if got := a.mtu(b); got != 8920 {
					t.Errorf("packets of up to %d bytes two minutes later, want 8920 again", got)
				}
				if a.drops != drops || a.changes != changes {
					t.Error("the path was left")
				}
			})
		})
	}
}

// TestLossIsNoBlackHole: a path that loses one packet in twenty carries what it
// carried.
func TestLossIsNoBlackHole(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.carries(1500)
		a, b := w.at("203.0.113.1", public), w.at("203.0.113.2", public)
		time.Sleep(2 * time.Second)
		w.net.SetLoss(0.05)
		bulk(a, b, 10*time.Second)
		began := time.Now()
		pour(a, b, 40*time.Millisecond, 10*time.Minute)
		told := a.toldSince(b, began)
		if len(told) > 4 || a.mtu(b) != 1440 {
			t.Errorf("in ten minutes: %v", told)
		}
	})
}

// TestSlowPathIsNoBlackHole: what is late is not lost.
func TestSlowPathIsNoBlackHole(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.carries(1500)
		a, b := w.at("203.0.113.1", public), w.at("203.0.113.2", public)
		time.Sleep(2 * time.Second)
		bulk(a, b, 5*time.Second)
		began := time.Now()
		w.net.SetDelay(700 * time.Millisecond) // a queue filled up
		bulk(a, b, 30*time.Second)
		w.net.SetDelay(10 * time.Millisecond)
		bulk(a, b, 5*time.Second)
		for _, mtu := range a.toldSince(b, began) {
			if mtu < 1440 {
				t.Errorf("%v", a.toldSince(b, began))
			}
		}
		if got := a.mtu(b); got != 1440 {
			t.Errorf("packets of up to %d bytes", got)
		}
	})
}

// TestStuckStream: a stream of large packets stands still in a black hole, but for
// one more now and then, while small packets still come: that is asked after at once.
func TestStuckStream(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		limit := w.carries(9000)
		a, b := w.at("203.0.113.1", public), w.at("203.0.113.2", public)
		time.Sleep(2 * time.Second)
		go converse(a, b, 20*time.Second)
		bulk(a, b, 5300*time.Millisecond)
		limit.Store(1400)
		began := time.Now()
		for _, after := range []time.Duration{100, 200, 400, 800} { // as TCP does
			time.Sleep(after * time.Millisecond)
			pour(a, b, time.Millisecond, time.Millisecond)
		}
		a.mu.Lock()
		told := a.mtus[b.pub]
		a.mu.Unlock()
		for _, x := range told {
			if x.at.After(began) {
				t.Logf("%d after %s", x.mtu, x.at.Sub(began))
				if x.at.Sub(began) > 700*time.Millisecond {
					t.Error("that is late")
				}
			}
		}
		if got := a.mtu(b); got != 1328 {
			t.Errorf("packets of up to %d bytes", got)
		}
		time.Sleep(20 * time.Second)
	})
}
