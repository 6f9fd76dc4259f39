package discovery

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"nexd/internal/logkey"
	"nexd/internal/stunwire"
)

// hole is a UDP socket of the prober: *net.UDPConn, or a simulated one.
type hole interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	SetReadDeadline(t time.Time) error
	Close() error
}

// opens makes Config.OpenSocket one that opens holes.
func opens(f func() (*net.UDPConn, error)) func() (hole, error) {
	return func() (hole, error) {
		c, err := f()
		if err != nil {
			return nil, err
		}
		return c, nil
	}
}

// adopts makes Config.Adopt one that takes them.
func adopts(f func(*net.UDPConn, netip.AddrPort) error) func(hole, netip.AddrPort) error {
	return func(h hole, remote netip.AddrPort) error {
		c, ok := h.(*net.UDPConn)
		if !ok {
			return errors.Join(fmt.Errorf("a %T is no UDP socket", h), h.Close())
		}
		return f(c, remote)
	}
}

// openHole is a socket with its reader, which ends with the socket's closing or
// at its deadline, and then closes done.
type openHole struct {
	hole
	set    *holeSet // nil: the gauge's
	number int
	done   chan struct{}
}

// holeSet is the sockets of a round.
type holeSet struct {
	opener *opener
	list   []*openHole // a nil one was handed over
	err    error       // why there are not more
}

// close closes the sockets. Their readers end by themselves.
func (s *holeSet) close() {
	for _, h := range s.list {
		if h != nil {
			h.Close()
		}
	}
}

// openHoles opens sockets for o, on a goroutine: it is hundreds of system calls.
// Run gets them by a channel.
func (a *Agent) openHoles(o *opener) {
	h := a.hard
	h.tasks.Go(func() {
		s := &holeSet{opener: o}
		for len(s.list) < maxHoles && s.err == nil {
			var c hole
			if c, s.err = h.open(); s.err == nil {
				s.list = append(s.list, &openHole{hole: c, set: s, number: len(s.list), done: make(chan struct{})})
			}
		}
		select {
		case h.opened <- s:
		case <-h.stop:
			s.close()
		}
	})
}

// holesOpened takes the sockets of a round.
func (a *Agent) holesOpened(s *holeSet) {
	if s.err != nil {
		a.log.Debug("fewer sockets than wanted", logkey.Count, len(s.list), logkey.Err, s.err)
	}
	if a.hard.opener != s.opener || len(s.list) < leastHoles {
		s.close()
		if a.hard.opener == s.opener {
			a.hard.peer.story.add(time.Now(), "too few sockets can be opened")
			a.endRound()
		}
		return
	}
	for _, h := range s.list {
		a.read(h)
	}
	a.hard.holes = s
	s.opener.count = len(s.list)
}

// read hands what comes to a socket to Run until the socket is closed or its
// deadline is over. Like all packets, those that find the queue full are dropped.
func (a *Agent) read(h *openHole) {
	a.hard.tasks.Go(func() {
		defer close(h.done)
		b := make([]byte, stunwire.MaxMessage+1)
		for {
			n, from, err := h.ReadFromUDPAddrPort(b)
			if err != nil {
				return // the socket is deaf now, at worst
			}
			if !stunwire.Is(b[:n]) {
				continue
			}
			select {
			case a.packets <- packet{bytes.Clone(b[:n]), unmap(from), time.Now(), h}:
			default:
				a.droppedPackets.Add(1)
			}
		}
	})
}

// closeHoles ends all that the prober has open; Run does it last.
func (a *Agent) closeHoles() {
	close(a.hard.stop)
	a.endRound()
	a.endGauge()
	a.hard.tasks.Wait()
}

// sendHoles sends the checks from sockets that are due.
func (a *Agent) sendHoles(now time.Time) {
	p, o := a.hard.peer, a.hard.opener
	for _, c := range o.tick(now) {
		h := a.hard.holes.list[c.hole]
		id, b := a.newCheck(p)
		o.sent(id, c, now)
		if _, err := h.WriteToUDPAddrPort(b, c.to); err != nil {
			a.counters.failed.Add(1)
		}
	}
}

// handleHole takes a STUN packet that came to a socket of the prober.
func (a *Agent) handleHole(pkt packet) {
	m, err := stunwire.Parse(pkt.data)
	switch {
	case err != nil:
	case pkt.hole == a.hard.gaugeHole:
		if a.gauged(&m, pkt.from) {
			return
		}
	case a.hard.holes == nil || pkt.hole.set != a.hard.holes:
		return // of a round that is over
	case m.Class == stunwire.Request:
		a.holeChecked(&m, pkt)
		return
	case m.Class == stunwire.Success && m.HasIntegrity() && m.Mapped.IsValid():
		x, ok := a.hard.opener.answers(m.ID, pkt.hole.number, pkt.from)
		if ok && m.Verify(&a.hard.peer.secrets.check) {
			a.holeProved(pkt.hole, pkt.from, pkt.at.Sub(x.at))
			return
		}
	}
	a.counters.unverified.Add(1)
}

// holeChecked: a check came through a hole. The check back goes before the
// answer: with it in hand the peer proves the path to us before it sends data.
func (a *Agent) holeChecked(m *stunwire.Message, pkt packet) {
	now := time.Now()
	p, answer, ok := a.takeCheck(m, pkt.from, now)
	if ok && p == a.hard.peer {
		a.hard.opener.checked(now, pkt.hole.number, pkt.from)
		a.sendHoles(now)
	}
	if answer != nil && p == a.hard.peer {
		if _, err := pkt.hole.WriteToUDPAddrPort(answer, pkt.from); err != nil {
			a.counters.failed.Add(1)
		}
	}
	if ok {
		a.activate(p, now)
	}
}

// holeProved: a socket reaches the peer at remote. It is handed over, and the
// peer's machine has a path like any other.
func (a *Agent) holeProved(h *openHole, remote netip.AddrPort, rtt time.Duration) {
	now, p := time.Now(), a.hard.peer
	// The reader ends before another begins: what arrives meanwhile waits in the socket.
	err := h.SetReadDeadline(time.Unix(1, 0))
	if err == nil {
		<-h.done
		err = h.SetReadDeadline(time.Time{})
	}
	if err != nil {
		a.log.Debug("hand a socket over", logkey.Peer, p.key.Short(), logkey.Err, err)
		a.endRound()
		return
	}
	a.hard.holes.list[h.number] = nil
	a.endRound()
	a.releaseHole(p)
	if err := a.hard.adopt(h.hole, remote); err != nil {
		a.log.Debug("hand a socket over", logkey.Peer, p.key.Short(), logkey.Err, err)
		p.story.add(now, "a port was found, but the socket cannot be used")
		return
	}
	p.hole = remote
	p.story.add(now, "a port was found")
	a.step(p, now, func(m *machine) {
		m.learn(candidate{Addr: remote, Kind: prflx, Priority: prflx.priority(0)}, false)
		m.answered(now, remote, rtt)
	})
}

// releaseHole gives up the socket p has, if it has one.
func (a *Agent) releaseHole(p *peer) {
	if p.hole.IsValid() {
		a.hard.release(p.hole)
		p.hole = netip.AddrPort{}
	}
}

var _ hole = (*net.UDPConn)(nil)
