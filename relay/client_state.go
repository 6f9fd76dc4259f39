package relay

import (
	"time"

	"nexd/internal/logkey"
)

// announce makes a link the one packets take.
func (r *runner) announce(now time.Time, u *upLink) {
	before := r.c.up.Swap(u)
	m := &r.udp.machine
	kind := UDP
	if u.ws != nil {
		m, kind = &r.tls.machine, TLS
	}
	r.err = nil
	r.suspected = r.suspected && before != nil && before.generation == u.generation
	if before != nil && before.generation == u.generation {
		r.update(func(s *Status) { s.RTT, s.Fresh = m.rtt, now })
		return
	}
	r.c.log.Info("relay connected", logkey.Path, kind.String(), logkey.Addr, u.addr, logkey.RTT, m.rtt)
	r.update(func(s *Status) {
		*s = Status{Transport: kind, Addr: u.addr, RTT: m.rtt, Since: now, Fresh: now}
	})
}

// down says that there is no way to the relay, once for each reason.
func (r *runner) down(why error) {
	was := r.c.up.Swap(nil)
	if was == nil && r.err != nil && r.err.Error() == why.Error() {
		return
	}
	r.err, r.suspected = why, false
	if was != nil {
		r.c.log.Info("relay lost", logkey.Reason, why)
	} else {
		r.c.log.Debug("relay not reached", logkey.Reason, why)
	}
	r.update(func(s *Status) {
		since := s.Since
		if was != nil {
			since = time.Now()
		}
		*s = Status{Since: since, Err: why}
	})
}

// suspect tells when pings are overdue, and when they no longer are.
func (r *runner) suspect(now bool) {
	if now != r.suspected {
		r.suspected = now
		r.update(func(s *Status) { s.Suspect = now })
	}
}

func (r *runner) update(change func(*Status)) {
	r.c.mu.Lock()
	change(&r.c.status)
	now := r.c.status
	r.c.mu.Unlock()
	if r.c.cfg.OnStatus != nil {
		r.c.cfg.OnStatus(now)
	}
}
