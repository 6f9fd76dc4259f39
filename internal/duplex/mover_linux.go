package duplex

import (
	"context"
	"net"
	"sync"
	"syscall"
)

// spareWorkers is how many workers wait for work at most; others end when they
// have none.
const spareWorkers = 16

// moverSys is the part of a Mover that its pumps share.
type moverSys struct {
	pollMu sync.Mutex // guards poller
	poller *poller    // made with the first pump

	workMu sync.Mutex // guards the fields below
	idle   []*worker  // the one that was idle for the shortest time last
	ending bool
}

// pump begins to move a pair; false: this pair, or now, it cannot.
func (m *Mover) pump(ctx context.Context, a, b net.Conn, o Options, done func(Result)) bool {
	p := &pump{m: m, done: done}
	p.up = flow{p: p, step: stepUp}
	p.down = flow{p: p, step: stepDown}
	var host net.Conn
	if mesh, ok := b.(pieceStream); ok {
		host, p.mesh, p.forward = a, mesh, true
		p.up.shared, p.down.shared = o.AtoB, o.BtoA
	} else if mesh, ok := a.(pieceStream); ok {
		host, p.mesh = b, mesh
		p.up.shared, p.down.shared = o.BtoA, o.AtoB
	}
	switch h := host.(type) {
	case *net.TCPConn:
		p.host = h
	case *net.UnixConn:
		p.host = h
	default:
		return false
	}
	raw, err := p.host.SyscallConn()
	if err != nil {
		return false
	}
	p.raw = raw
	poller, err := m.polling()
	if err != nil {
		return false
	}
	// Until begin has run, events only leave a mark.
	p.left.Store(2)
	p.up.state.Store(busy)
	p.down.state.Store(busy)
	if p.slot, err = poller.add(p); err != nil {
		return false
	}
	p.begin(ctx, o)
	return true
}

// polling returns the poller, started by the first call.
func (m *Mover) polling() (*poller, error) {
	m.sys.pollMu.Lock()
	defer m.sys.pollMu.Unlock()
	if m.sys.poller != nil {
		return m.sys.poller, nil
	}
	p, err := newPoller()
	if err != nil {
		return nil, err
	}
	m.sys.poller = p
	m.serving.Go(p.run)
	return p, nil
}

func (m *Mover) end() {
	m.sys.pollMu.Lock()
	if m.sys.poller != nil {
		m.sys.poller.close()
	}
	m.sys.pollMu.Unlock()
	m.sys.workMu.Lock()
	m.sys.ending = true
	for _, w := range m.sys.idle {
		close(w.next)
	}
	m.sys.idle = nil
	m.sys.workMu.Unlock()
}

// hostStream is a socket of the host.
type hostStream interface {
	net.Conn
	closeWriter
	syscall.Conn
}

// dispatch gives f to a worker. It may be called with locks of others held.
func (m *Mover) dispatch(f *flow) {
	s := &m.sys
	s.workMu.Lock()
	if last := len(s.idle) - 1; last >= 0 {
		w := s.idle[last]
		s.idle = s.idle[:last]
		s.workMu.Unlock()
		w.next <- f // has room: an idle worker has nothing else
		return
	}
	s.workMu.Unlock()
	m.serving.Go(func() { m.work(f) })
}

// work runs flows until there is nothing to do and enough workers wait already.
func (m *Mover) work(f *flow) {
	s := &m.sys
	w := newWorker()
	for {
		f.run(w)
		s.workMu.Lock()
		if s.ending || len(s.idle) >= spareWorkers {
			s.workMu.Unlock()
			return
		}
		s.idle = append(s.idle, w)
		s.workMu.Unlock()
		var ok bool
		if f, ok = <-w.next; !ok {
			return
		}
	}
}
