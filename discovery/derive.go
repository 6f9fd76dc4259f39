package discovery

import (
	"context"
	"sync"

	"nexd/key"
)

// derivedSecrets comes from the background to Run.
type derivedSecrets struct {
	peer    key.Public
	secrets *secrets
}

// deriveQueue is the list of members whose secrets are still to be made.
type deriveQueue struct {
	mu   sync.Mutex // guards keys
	keys []key.Public
	wake chan struct{}
}

func newDeriveQueue() deriveQueue { return deriveQueue{wake: make(chan struct{}, 1)} }

// deriveSoon queues peers, in order. The list is bounded by the membership.
func (q *deriveQueue) deriveSoon(peers []key.Public) {
	if len(peers) == 0 {
		return
	}
	q.mu.Lock()
	q.keys = append(q.keys, peers...)
	q.mu.Unlock()
	select {
	case q.wake <- struct{}{}:
	default:
	}
}

func (q *deriveQueue) pop() (k key.Public, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.keys) == 0 {
		q.keys = nil
		return k, false
	}
	k, q.keys = q.keys[0], q.keys[1:]
	return k, true
}

// derive makes secrets one after the other until ctx ends.
func (a *Agent) derive(ctx context.Context) {
	for {
		k, ok := a.toDerive.pop()
		if !ok {
			select {
			case <-ctx.Done():
				return
			case <-a.toDerive.wake:
			}
			continue
		}
		s, err := newSecrets(a.config.Private, a.self, k)
		if err != nil {
			continue // a key nobody can have: that peer is never reached
		}
		select {
		case <-ctx.Done():
			return
		case a.derived <- derivedSecrets{k, s}:
		}
	}
}

// learnSecrets makes a peer's checks recognisable.
func (a *Agent) learnSecrets(d derivedSecrets) {
	p := a.peers[d.peer]
	if p == nil || p.secrets != nil {
		return // gone, or made on demand meanwhile
	}
	p.secrets = d.secrets
	a.byHint[d.secrets.hintIn] = p
}
