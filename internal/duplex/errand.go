package duplex

import "sync/atomic"

// States of an errand. Whoever changes idle to busy has to see that it runs.
const (
	idle  = iota
	busy  // runs, or will
	again // runs, and must once more
	over
)

// errand is something that has to be looked after now and then, by one goroutine
// at a time, and has none otherwise.
type errand struct {
	crew  *crew
	step  func() (over bool)
	state atomic.Uint32
}

// wake makes the errand run, soon, and once more if it runs now. It may be called
// with locks of others held.
func (e *errand) wake() {
	for {
		switch e.state.Load() {
		case idle:
			if e.state.CompareAndSwap(idle, busy) {
				e.crew.do(e)
				return
			}
		case busy:
			if e.state.CompareAndSwap(busy, again) {
				return
			}
		default:
			return
		}
	}
}

// run takes steps until there is nothing to do; the errand is busy.
func (e *errand) run() {
	for {
		if e.step() {
			e.state.Store(over)
			return
		}
		if e.state.CompareAndSwap(busy, idle) {
			return
		}
		e.state.Store(busy)
	}
}

// Errand is something that has to be looked after now and then, by one goroutine
// at a time, and has none otherwise.
type Errand struct{ errand }

// NewErrand makes an errand. step is called after each Wake, once for those that
// came together, until it reports that the errand is over. It has to be over, or
// not to be woken any more, when the Mover is closed.
func (m *Mover) NewErrand(step func() (over bool)) *Errand {
	return &Errand{errand{crew: &m.crew, step: step}}
}

// Wake makes the errand run, soon, and once more if it runs now. It may be called
// with locks held.
func (e *Errand) Wake() { e.wake() }
