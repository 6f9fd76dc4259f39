package relay

import (
	"time"

	"nexd/internal/logkey"
)

func (r *runner) flushTLS() {
	if r.tls.conn != nil {
		for _, f := range r.tls.out {
			r.tls.conn.queue.push(nil, f)
		}
	}
	r.tls.out = nil
}

// dialed takes a connection into use.
func (r *runner) dialed(now time.Time, d dialResult) {
	r.tls.dialing = false
	credential := r.c.cfg.Credential()
	switch {
	case d.err != nil:
		r.lostTLS(now, d.err)
	case r.udp.up:
		d.conn.close()
	case len(credential) != credentialSize:
		d.conn.close()
		r.lostTLS(now, ErrNoCredential) // not again at once
	default:
		r.tls.conn = d.conn
		r.tls.start(now, credential)
		r.flushTLS()
	}
}

func (r *runner) outcomeTLS(now time.Time, o outcome) {
	switch o.event {
	case evNone:
	case evUp, evResumed:
		r.tls.fails = 0
		if o.event == evUp {
			r.generation++
		}
		if r.udp.up {
			return // it came up meanwhile, and is better
		}
		r.announce(now, &upLink{generation: r.generation, tag: r.tls.session, channels: r.tls.channels, ws: r.tls.conn})
	case evLost:
		r.lostTLS(now, ErrSilent)
	case evRefused:
		if r.tls.up {
			r.c.log.Warn("relay does not renew", logkey.Reason, o.refusal.String())
			return
		}
		r.lostTLS(now, &RefusedError{o.refusal})
		r.tls.next = now.Add(longPause)
	case evBye:
		if o.bye == ByeDraining {
			r.update(func(s *Status) { s.Draining = true })
			return
		}
		r.lostTLS(now, &ByeError{o.bye})
		r.tls.next = now.Add(byePause(o.bye))
	}
}

// lostTLS ends an attempt or a session.
func (r *runner) lostTLS(now time.Time, why error) {
	was := r.tls.up
	r.tls.close()
	if r.tls.conn != nil {
		r.tls.conn.close()
		r.tls.conn = nil
	}
	r.tls.next = now.Add(after(reconnect[:], r.tls.fails))
	r.tls.fails++
	if was && !r.udp.active() {
		r.udp.next, r.udp.fails = now, 0 // what closed it may have changed the network
	}
	if u := r.c.up.Load(); u == nil || u.ws != nil {
		r.down(why)
	}
}

// retireTLS lets a connection UDP has replaced bring what is on its way.
func (r *runner) retireTLS(now time.Time) {
	r.tls.close()
	r.tls.fails = 0
	if r.tls.conn == nil {
		return
	}
	if r.old != nil {
		r.old.close()
	}
	r.old, r.oldEnds = r.tls.conn, now.Add(drainTLS)
	r.tls.conn = nil
}
