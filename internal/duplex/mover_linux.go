package duplex

import (
	"context"
	"net"
	"sync"
	"syscall"
	"time"
)

// moverSys is the part of a Mover that its pumps share.
type moverSys struct {
	pollMu sync.Mutex // guards poller
	poller *poller    // made when the first pump goes to sleep

	awakeMu sync.Mutex // guards the fields below, and the places of the pumps
	awake   []*pump
	look    *time.Timer
	looking bool
}

// pump moves a pair; false: it cannot move this one.
func (m *Mover) pump(ctx context.Context, a, b net.Conn, o Options, done func(Result)) bool {
	p := &pump{m: m, done: done, place: nowhere}
	p.up.p, p.down.p = p, p
	p.up.crew, p.down.crew = &m.crew, &m.crew
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
	go p.run()
	return p, nil
}

func (m *Mover) end() {
	s := &m.sys
	s.pollMu.Lock()
	if s.poller != nil {
		s.poller.close()
		<-s.poller.done
	}
	s.pollMu.Unlock()
	s.awakeMu.Lock()
	if s.look != nil {
		s.look.Stop()
	}
	s.awakeMu.Unlock()
}

// nowhere is the place of a pump that is not among those awake.
const nowhere = -1

// rouse puts p among those that are looked at whether they are quiet.
func (m *Mover) rouse(p *pump) {
	s := &m.sys
	s.awakeMu.Lock()
	defer s.awakeMu.Unlock()
	p.moved.Store(true)
	if p.place == nowhere {
		p.place = len(s.awake)
		s.awake = append(s.awake, p)
	}
	if s.looking {
		return
	}
	s.looking = true
	if s.look == nil {
		s.look = time.AfterFunc(m.QuietTime, m.lookAround)
	} else {
		s.look.Reset(m.QuietTime)
	}
}

func (m *Mover) forget(p *pump) {
	m.sys.awakeMu.Lock()
	defer m.sys.awakeMu.Unlock()
	m.forgetLocked(p)
}

func (m *Mover) forgetLocked(p *pump) {
	s := &m.sys
	if p.place == nowhere {
		return
	}
	last := len(s.awake) - 1
	s.awake[p.place] = s.awake[last]
	s.awake[p.place].place = p.place
	s.awake[last] = nil
	if s.awake = s.awake[:last]; last == 0 {
		s.awake = nil // give memory back after a peak
	}
	p.place = nowhere
}

// lookAround sends pumps to sleep where nothing moved since the last time.
func (m *Mover) lookAround() {
	s := &m.sys
	var quiet []*pump
	s.awakeMu.Lock()
	for i := len(s.awake) - 1; i >= 0; i-- {
		if p := s.awake[i]; !p.moved.Swap(false) {
			quiet = append(quiet, p)
			m.forgetLocked(p)
		}
	}
	if s.looking = len(s.awake) > 0; s.looking {
		s.look.Reset(m.QuietTime)
	}
	s.awakeMu.Unlock()
	for _, p := range quiet {
		p.tire()
	}
}

// hostStream is a socket of the host.
type hostStream interface {
	net.Conn
	closeWriter
	syscall.Conn
}
