package duplex

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// restTime is for how long nothing may have moved in a pair that is cut for its
// streams to be at rest.
const restTime = time.Second

// course is what every running copy has: when a byte moved last, and how it ends.
type course struct {
	idle time.Duration
	last atomic.Int64 // monotonic nanoseconds of the last byte

	timerMu sync.Mutex // guards timer and stopped
	timer   *time.Timer
	stopped bool

	mu     sync.Mutex // guards the fields below
	end    End        // set once: Reset, Idle or Cut
	err    error
	rested bool // with end: no byte has moved for restTime
}

var start = time.Now()

// begin starts the clock; cut is called when nothing moved for the idle time.
func (c *course) begin(idle time.Duration, cut func(End)) {
	c.touch()
	if c.idle = idle; idle <= 0 {
		return
	}
	c.timerMu.Lock()
	defer c.timerMu.Unlock()
	c.timer = time.AfterFunc(idle, func() { c.checkIdle(cut) })
}

func (c *course) touch() { c.last.Store(int64(time.Since(start))) }

// quiet is for how long no byte has moved.
func (c *course) quiet() time.Duration {
	return time.Since(start) - time.Duration(c.last.Load())
}

// checkIdle fires when the idle time may be over; any byte since then puts it off.
func (c *course) checkIdle(cut func(End)) {
	left := c.idle - c.quiet()
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
	c.end, c.err, c.rested = end, err, c.quiet() >= restTime
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

// outcome is one of the two streams, and how things stand with it after the copy.
type outcome struct {
	conn     net.Conn
	finished bool // it has sent its FIN
	lost     bool // bytes for it were read, or ready to be, that could not be written
}

func (o outcome) close(reset bool) {
	if reset {
		Abort(o.conn)
	}
	_ = o.conn.Close()
}

// closeBoth ends the streams a and b the way the end of the copy asks for.
func (c *course) closeBoth(a, b outcome) {
	c.mu.Lock()
	end, rested := c.end, c.rested
	c.mu.Unlock()
	// Finish in the direction where nothing was lost, reset the other.
	resetA, resetB := a.lost, b.lost
	switch end {
	case Reset:
		resetA, resetB = true, true
	case Cut:
		// Who has been sent no FIN so far may be amidst something: only where both
		// sides are as between two requests it is no word about what came before.
		if !rested || a.finished || b.finished || a.lost || b.lost {
			resetA, resetB = a.lost || !b.finished, b.lost || !a.finished
		}
	case Finished, Idle:
	}
	a.close(resetA)
	b.close(resetB)
}
