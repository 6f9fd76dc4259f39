package netwatch

import "time"

const (
	// sleepAhead is how far the wall clock must run ahead of the monotonic one,
	// which on some systems stands still in sleep.
	sleepAhead = 5 * time.Second
	// sleepLate is how late a tick must be where it does not; a loaded machine
	// is a little late, too.
	sleepLate = 10 * time.Second
)

// clocks notices that the machine slept.
type clocks struct {
	last time.Time // with both readings
}

func newClocks(now time.Time) clocks { return clocks{last: now} }

// slept is asked at each tick, and reports whether the machine slept since the
// one before. now holds a wall and a monotonic reading.
func (c *clocks) slept(now time.Time) bool {
	monotonic := now.Sub(c.last)
	wall := now.Round(0).Sub(c.last.Round(0))
	c.last = now
	return missed(wall, monotonic)
}

// missed judges the time between two ticks by both clocks.
func missed(wall, monotonic time.Duration) bool {
	return wall-monotonic > sleepAhead || monotonic > tick+sleepLate
}
