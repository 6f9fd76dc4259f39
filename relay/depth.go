package relay

import "time"

const (
	depthTime = int64(50 * time.Millisecond)
	deepest   = 4 // times the least
)

// depth is how many bytes may wait for somebody who takes them: as many as it
// takes in 50 ms, so that a queue before a slow line is no long wait and one
// before a fast line holds the bursts of many connections; but a least, and
// not more than four times that. Its owner's lock guards it.
type depth struct {
	least int
	bound int // 0: the least
	taken int
	since int64
}

// bytes returns how many may wait.
func (d *depth) bytes() int { return max(d.bound, d.least) }

// took says that n bytes were taken; now is in nanoseconds since any moment.
func (d *depth) took(n int, now int64) {
	d.taken += n
	passed := now - d.since
	if passed < depthTime {
		return
	}
	d.bound = min(int(int64(d.taken)*depthTime/passed), deepest*d.least)
	d.taken, d.since = 0, now
}
