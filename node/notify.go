package node

import "sync"

// notifier tells any number of waiters that something changed.
type notifier struct {
	mu sync.Mutex
	// ch is closed at the next change; mu guards it.
	ch chan struct{}
}

// wait returns a channel that is closed at the next call of notify.
func (n *notifier) wait() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch == nil {
		n.ch = make(chan struct{})
	}
	return n.ch
}

// notify wakes every waiter.
func (n *notifier) notify() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ch != nil {
		close(n.ch)
		n.ch = nil
	}
}
