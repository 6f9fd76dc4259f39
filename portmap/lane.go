package portmap

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"nexd/internal/logkey"
)

const (
	// portLook is how often the local port is looked at, portWait while there is none.
	portLook = 5 * time.Second
	portWait = time.Second
	// endTime bounds taking a mapping back.
	endTime = time.Second
)

// errNoPort: there is nothing to map.
var errNoPort = errors.New("the UDP socket is not open")

// lane keeps the port mapped in one IP version.
type lane struct {
	m  *Mapper
	v6 bool

	// What it asks; of tests.
	findLink func() (link, error)
	find     func(ctx context.Context, l link, port uint16) (way, mapping, error)
	listen   func(link) (*net.UDPConn, error)

	wake chan struct{} // of one
	news chan news     // of one

	// Of run's goroutine.
	link    link
	way     way // at link; nil: none is known
	keeper  keeper
	hearing *announcements
}

// result is what came of a lane's asking.
type result struct {
	protocol string
	external netip.AddrPort
	expires  time.Time
	err      error
	useless  string
}

// run keeps the port mapped until ctx ends, and takes the mapping back.
func (l *lane) run(ctx context.Context) {
	timer := newAlarm()
	defer timer.stop()
	defer func() { l.hearing.stop() }()
	for {
		select {
		case <-ctx.Done():
			l.release(ctx)
			return
		case <-l.wake:
			l.keeper.woken(time.Now())
		case n := <-l.news:
			if now := time.Now(); l.way == nil || l.way.heard(n, now) {
				l.keeper.heard(now)
			}
		case <-timer.C:
		}
		timer.set(time.Until(l.step(ctx)))
	}
}

// step does what is due, and returns when to come again.
func (l *lane) step(ctx context.Context) time.Time {
	port, now := l.m.c.Port(), time.Now()
	if l.keeper.expire(now) {
		l.m.publish(l.v6, result{err: errors.New("the mapping was not renewed in time")})
	}
	if l.keeper.port != 0 && l.keeper.port != port {
		l.release(ctx)
		l.keeper = keeper{}
	}
	if port == 0 {
		l.m.publish(l.v6, result{err: errNoPort})
		return now.Add(portWait)
	}
	if !now.Before(l.keeper.next()) {
		l.round(ctx, port)
	}
	next := time.Now().Add(portLook)
	if due := l.keeper.next(); due.Before(next) {
		next = due
	}
	return next
}

// round asks for the mapping, or for more of its time.
func (l *lane) round(whole context.Context, port uint16) {
	ctx, cancel := context.WithTimeout(whole, roundTime)
	defer cancel()
	here, err := l.findLink()
	if here != l.link || err != nil { // another network: nothing there is ours
		l.way, l.link = nil, here
		l.keeper.drop()
		l.hearAt(here)
	}
	var m mapping
	if err == nil {
		m, err = l.ask(ctx, port)
	}
	now := time.Now()
	if err != nil && whole.Err() != nil {
		return // nothing is known
	}
	if err != nil {
		l.keeper.refused(now)
		if l.keeper.port == 0 {
			l.way = nil
			l.m.publish(l.v6, result{err: err})
		}
		return
	}
	if why := useless(m.external.Addr()); why != "" {
		l.keeper.granted(port, m, now)
		l.release(whole) // an open door that nobody comes through
		l.keeper.useless(now)
		l.m.publish(l.v6, result{protocol: l.way.protocol(), external: m.external, useless: why})
		return
	}
	l.keeper.granted(port, m, now)
	l.m.publish(l.v6, result{protocol: l.way.protocol(), external: m.external, expires: l.keeper.expires})
}

// ask uses the known way, and looks for another one if that fails.
func (l *lane) ask(ctx context.Context, port uint16) (mapping, error) {
	if l.way != nil {
		m, err := l.way.open(ctx, port, l.keeper.external)
		if err == nil {
			return m, nil
		}
		l.m.c.Log.Debug("the port mapping was not renewed", logkey.Reason, err)
		if no := (refusal{}); errors.As(err, &no) {
			l.keeper.drop() // it said so
		}
	}
	w, m, err := l.find(ctx, l.link, port)
	if err == nil {
		l.way = w
	}
	return m, err
}

// release takes the mapping back, if there is one; ctx may have ended.
func (l *lane) release(ctx context.Context) {
	if l.keeper.port == 0 || l.way == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer cancel()
	if err := l.way.close(ctx, l.keeper.port, l.keeper.external); err != nil {
		l.m.c.Log.Debug("the port mapping was not taken back: it ends by itself", logkey.Reason, err, keyExpires, l.keeper.expires)
	}
	l.keeper.drop()
}

// hearAt listens to the gateway's announcements, where that is possible: they
// are quicker than the next renewal, and only that.
func (l *lane) hearAt(here link) {
	l.hearing.stop()
	l.hearing = nil
	if l.v6 || !here.gateway.IsValid() {
		return
	}
	conn, err := l.listen(here)
	if err != nil {
		l.m.c.Log.Debug("the gateway's announcements cannot be heard", logkey.Reason, err)
		return
	}
	l.hearing = hear(conn, netip.AddrPortFrom(here.gateway, l.m.finder.port), func(n news) {
		select {
		case l.news <- n:
		default: // one is enough
		}
	})
}
