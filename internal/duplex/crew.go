package duplex

import "sync"

// spareWorkers is how many workers wait for work at most; others end when they
// have none.
const spareWorkers = 16

// crew runs tasks in goroutines that are used again: a fresh one's stack has to
// grow first, which is a good part of what a short connection costs.
type crew struct {
	working sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	idle   []*worker  // the one that was idle for the shortest time last
	ending bool
}

type task interface{ run() }

type worker struct{ next chan task }

// do gives t to a worker. It may be called with locks of others held.
func (c *crew) do(t task) {
	c.mu.Lock()
	if last := len(c.idle) - 1; last >= 0 {
		w := c.idle[last]
		c.idle = c.idle[:last]
		c.mu.Unlock()
		w.next <- t // has room: an idle worker has nothing else
		return
	}
	c.mu.Unlock()
	c.working.Go(func() { c.work(t) })
}

// work runs tasks until there is nothing to do and enough workers wait already.
func (c *crew) work(t task) {
	w := &worker{next: make(chan task, 1)}
	for ok := true; ok; t, ok = <-w.next {
		t.run()
		c.mu.Lock()
		if c.ending || len(c.idle) >= spareWorkers {
			c.mu.Unlock()
			return
		}
		c.idle = append(c.idle, w)
		c.mu.Unlock()
	}
}

// end lets the workers go, and waits until they have finished what they do.
// Nothing may be given to the crew afterwards.
func (c *crew) end() {
	c.mu.Lock()
	c.ending = true
	for _, w := range c.idle {
		close(w.next)
	}
	c.idle = nil
	c.mu.Unlock()
	c.working.Wait()
}
