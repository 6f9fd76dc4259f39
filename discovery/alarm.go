package discovery

import "time"

// alarm wakes a loop at a time. It sends by a function rather than being a
// timer with a channel: on a simulated clock under the race detector, Go 1.26's
// runtime crashes where a select meets a timer's channel that is due already.
type alarm struct {
	// C holds at most one wake-up. After a set it may hold one from before: the
	// loop finds nothing due then.
	C chan struct{}

	timer *time.Timer
}

// newAlarm returns an alarm that goes off after d.
func newAlarm(d time.Duration) *alarm {
	a := &alarm{C: make(chan struct{}, 1)}
	a.timer = time.AfterFunc(d, func() {
		select {
		case a.C <- struct{}{}:
		default:
		}
	})
	return a
}

// set has it go off once more, after d.
func (a *alarm) set(d time.Duration) { a.timer.Reset(d) }

// stop ends it.
func (a *alarm) stop() { a.timer.Stop() }
