package portmap

import "time"

// alarm wakes a loop at a time. It sends by a function: on a simulated clock
// under the race detector, a select must not meet a timer's channel.
type alarm struct {
	C chan struct{} // of one; may hold one from before a set

	timer *time.Timer
}

func newAlarm() *alarm {
	a := &alarm{C: make(chan struct{}, 1)}
	a.timer = time.AfterFunc(0, func() {
		select {
		case a.C <- struct{}{}:
		default:
		}
	})
	return a
}

func (a *alarm) set(d time.Duration) { a.timer.Reset(max(d, 0)) }
func (a *alarm) stop()               { a.timer.Stop() }
