package duplex

import (
	"errors"
	"net"
	"sync"
	"time"
)

// Accept hands the connections that ln accepts to take, one after the other,
// until it is closed by stop or fails: then it calls ended, with nil after stop.
// Where nothing comes for a while, it holds no goroutine, if ln is a TCP listener
// of the host on Linux or one that can tell (see tryListener). stop closes ln; it
// may be called more than once. take should not block.
func (m *Mover) Accept(ln net.Listener, take func(net.Conn), ended func(error)) (stop func()) {
	a := &acceptor{m: m, ln: ln, take: take, ended: ended, stopped: make(chan struct{})}
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		_ = ln.Close()
		ended(nil)
		return func() {}
	}
	m.moving.Add(1)
	m.mu.Unlock()
	a.errand = errand{crew: &m.crew, step: a.block}
	if l, ok := ln.(tryListener); ok {
		a.step = func() bool { return a.tryAll(l) }
		l.Notify(a.wake)
	} else if host, ok := a.hostStep(); ok {
		a.step = host
	}
	a.wake()
	return a.stop
}

// tryListener is a listener of a user-space stack that can be asked without
// waiting.
type tryListener interface {
	// Notify makes ready be called, with locks held, when there may be something
	// to accept.
	Notify(ready func())
	// TryAccept is Accept, but returns nil and nil when there is nothing now.
	TryAccept() (net.Conn, error)
}

// acceptor is one listener that is served.
type acceptor struct {
	errand
	m     *Mover
	ln    net.Listener
	take  func(net.Conn)
	ended func(error)
	pause time.Duration // after an error that may pass

	stopping sync.Once
	stopped  chan struct{}

	sys acceptorSys
}

func (a *acceptor) stop() {
	a.stopping.Do(func() {
		close(a.stopped)
		_ = a.ln.Close()
		a.wake()
	})
}

// block accepts until the listener is closed.
func (a *acceptor) block() bool {
	for {
		c, err := a.ln.Accept()
		if err != nil {
			if a.failed(err) {
				return true
			}
			continue
		}
		a.accepted(c)
	}
}

// tryAll accepts what is there.
func (a *acceptor) tryAll(l tryListener) bool {
	for {
		c, err := l.TryAccept()
		switch {
		case err != nil:
			if a.failed(err) {
				return true
			}
		case c == nil:
			return false
		default:
			a.accepted(c)
		}
	}
}

func (a *acceptor) accepted(c net.Conn) {
	a.pause = 0
	a.take(c)
}

// failed reports whether err is the end. Another one may pass: when descriptors
// or memory are short, what is open ends some day.
func (a *acceptor) failed(err error) bool {
	select {
	case <-a.stopped:
		err = nil
	default:
		if errors.Is(err, net.ErrClosed) {
			err = nil
		}
		var t interface{ Temporary() bool }
		if errors.As(err, &t) && t.Temporary() {
			a.pause = min(max(2*a.pause, 5*time.Millisecond), time.Second)
			select {
			case <-a.stopped:
			case <-time.After(a.pause):
			}
			return false
		}
	}
	a.ended(err)
	a.m.moving.Done()
	return true
}
