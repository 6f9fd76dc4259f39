package duplex

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// course is what every running copy has: when a byte moved last, and how it ends.
type course struct {
	idle time.Duration
	last atomic.Int64 // monotonic nanoseconds of the last byte

	timerMu sync.Mutex // guards timer and stopped
	timer   *time.Timer
	stopped bool

	mu  sync.Mutex // guards the fields below
	end End        // set once: Reset, Idle or Cut
	err error
}

var start = time.Now()

// begin starts the clock; cut is called when nothing moved for the idle time.
func (c *course) begin(idle time.Duration, cut func(End)) {
	if c.idle = idle; idle <= 0 {
		return
	}
	c.touch()
	c.timerMu.Lock()
	defer c.timerMu.Unlock()
	c.timer = time.AfterFunc(idle, func() { c.checkIdle(cut) })
}

func (c *course) touch() {
	if c.idle > 0 {
		c.last.Store(int64(time.Since(start)))
	}
}

// checkIdle fires when the idle time may be over; any byte since then puts it off.
func (c *course) checkIdle(cut func(End)) {
	left := c.idle - (time.Since(start) - time.Duration(c.last.Load()))
	if left <= 0 {
		cut(Idle)
		return
	}
	c.timerMu.Lock()
	defer c.timerMu.Unlock()
	if !c.stopped {
		c.timer.Reset(left)
	}
}

func (c *course) stopIdle() {
	c.timerMu.Lock()
	defer c.timerMu.Unlock()
	c.stopped = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

// settle records the first reason to end before both sides have finished.
func (c *course) settle(end End, err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.end != 0 {
		return false
	}
	c.end, c.err = end, err
	return true
}

func (c *course) settled() End {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.end
}

// result says how the copy went.
func (c *course) result(ab, ba int64) Result {
	c.mu.Lock()
	defer c.mu.Unlock()
	r := Result{AtoB: ab, BtoA: ba, End: Finished}
	if c.end != 0 {
		r.End, r.Err = c.end, c.err
	}
	return r
}

// closeBoth ends the streams a and b the way the end of the copy asks for.
// lostA and lostB: bytes for that stream were read and could not be written.
func (c *course) closeBoth(a, b net.Conn, lostA, lostB bool) {
	if c.settled() == Reset {
		Abort(a)
		Abort(b)
		return
	}
	// Finish in the direction where nothing was lost, reset the other.
	if lostA {
		Abort(a)
	}
	if lostB {
		Abort(b)
	}
	_ = a.Close()
	_ = b.Close()
}
