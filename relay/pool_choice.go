package relay

import (
	"cmp"
	"slices"
	"time"
)

// When another relay becomes home or standby.
const (
	homePatience    = 2 * time.Second  // a home without a session for so long is left
	standbyPatience = 3 * time.Second  // likewise a standby
	givenUpFor      = 30 * time.Second // one that was left is not taken as standby again before
	homeCalm        = time.Minute      // between changes for a nearer one
	nearerRounds    = 2                // measurements in a row that must find it nearer
	nearerBy        = 10 * time.Millisecond
	nearerByPart    = 4 // or a quarter of the home's round trip
	// tlsFarther is how much farther a relay counts that only TLS reaches.
	tlsFarther = 50 * time.Millisecond
)

// standing is what the choice knows of a relay of the list.
type standing struct {
	number    uint16
	connected bool
	draining  bool
	reached   bool          // connected, or it answered the last question
	down      time.Duration // how long the session that is wanted has been missing
	distance  time.Duration // 0: not known
}

// choice says which relays are home and standby, without I/O. Of two relays the
// first to be connected is home until the first measurement; from then on the
// home stays until another is nearer by a margin in two measurements in a row
// and has a session, or it fails or drains.
//
//	none ──── first session ────▶ home ◀──┐
//	                               │      │ nearer twice, a minute after the last change
//	       2 s down, draining      ▼      │
//	          ┌────────────── standby ────┘
//	          └─▶ the standby is home, the nearest other one standby
type choice struct {
	home, standby uint16 // 0: none
	settled       bool   // there was a measurement
	nearer        uint16 // by the margin than home; 0: none
	rounds        int    // in a row
	moved         time.Time
	given         map[uint16]time.Time // when one was left
	changes       int                  // of a home to another
}

// step looks at the sessions and returns when it wants to be called next. list
// is in the order of the service's.
func (c *choice) step(now time.Time, list []standing) (next time.Time) {
	next = now.Add(time.Hour)
	c.forget(now, list)
	home, standby := find(list, c.home), find(list, c.standby)
	if home == nil {
		c.home = c.first(list)
		if c.home == c.standby {
			c.standby = 0
		}
		home, standby = find(list, c.home), find(list, c.standby)
	}
	if home == nil {
		return next
	}
	if home.draining || home.down >= homePatience {
		if other := c.substitute(list); other != 0 {
			c.leave(now, c.home)
			c.become(now, other)
			c.standby = c.pick(now, list, false)
			standby = find(list, c.standby)
		}
	} else if home.down > 0 {
		next = earlier(next, now.Add(homePatience-home.down))
	}
	switch {
	case standby == nil && (c.settled || anyConnected(list)):
		c.standby = c.pick(now, list, false)
	case standby == nil:
	case standby.draining || standby.down >= standbyPatience:
		if other := c.pick(now, list, true); other != 0 {
			c.leave(now, c.standby)
			c.standby = other
		} else {
			next = earlier(next, now.Add(standbyPatience))
		}
	case standby.down > 0:
		next = earlier(next, now.Add(standbyPatience-standby.down))
	}
	if s := find(list, c.nearer); s != nil && c.rounds >= nearerRounds && s.connected && !s.draining && c.nearer != c.home {
		if wait := c.moved.Add(homeCalm); !c.moved.IsZero() && now.Before(wait) {
			return earlier(next, wait)
		}
		c.become(now, c.nearer)
		c.standby = c.pick(now, list, false)
	}
	return next
}

// measured takes the distances of a round of questions.
func (c *choice) measured(now time.Time, list []standing) {
	near := nearest(list, c.home)
	if near == nil {
		if home := find(list, c.home); home != nil && home.reached {
			c.settled = true
		}
		c.nearer, c.rounds = 0, 0
		return
	}
	first := !c.settled
	c.settled = true
	home := find(list, c.home)
	if home == nil {
		c.home = near.number
		c.standby = c.pick(now, list, false)
		return
	}
	switch {
	case !home.reached || home.distance == 0 || !closer(near, home):
		c.nearer, c.rounds = 0, 0
	case c.nearer == near.number:
		c.rounds++
	default:
		c.nearer, c.rounds = near.number, 1
	}
	if first && c.nearer != 0 {
		c.rounds = nearerRounds // what is home so far was not chosen
	}
	standby := find(list, c.standby)
	if first || c.nearer != 0 || standby == nil || !standby.reached || standby.distance == 0 || closer(near, standby) {
		c.standby = near.number
	}
}

// wanted returns the relays a session is wanted with, the most wanted first.
// Before the first session these are the first two of the list and the one
// that answered first.
func (c *choice) wanted(list []standing, answered uint16) (out []uint16) {
	add := func(n uint16) {
		if n != 0 && !slices.Contains(out, n) {
			out = append(out, n)
		}
	}
	add(c.home)
	add(c.standby)
	add(c.nearer)
	if !c.settled {
		for _, s := range list[:min(len(list), 2)] {
			add(s.number)
		}
		add(answered)
	}
	return out
}

// uneasy reports whether the next measurement should come soon.
func (c *choice) uneasy() bool { return !c.settled || c.nearer != 0 || len(c.given) > 0 }

func (c *choice) become(now time.Time, home uint16) {
	c.home, c.moved, c.nearer, c.rounds = home, now, 0, 0
	c.changes++
}

func (c *choice) leave(now time.Time, n uint16) {
	if c.given == nil {
		c.given = map[uint16]time.Time{}
	}
	c.given[n] = now
}

// forgetAfter is for how long a failure makes measurements more frequent.
const forgetAfter = 5 * time.Minute

// forget drops what is not in the list, and old failures.
func (c *choice) forget(now time.Time, list []standing) {
	for n, at := range c.given {
		if now.Sub(at) >= forgetAfter || find(list, n) == nil {
			delete(c.given, n)
		}
	}
	if find(list, c.home) == nil && c.home != 0 {
		c.home = 0
		if s := find(list, c.standby); s != nil && (s.connected || !anyConnected(list)) {
			c.become(now, c.standby)
			c.standby = 0
		}
	}
	if find(list, c.standby) == nil {
		c.standby = 0
	}
	if find(list, c.nearer) == nil {
		c.nearer, c.rounds = 0, 0
	}
}

// first returns what becomes home when there is none: the nearest with a session.
func (c *choice) first(list []standing) uint16 {
	return best(list, func(s standing) bool { return s.connected }, byDistance)
}

// substitute returns what becomes home in place of one that failed: the standby if it can.
func (c *choice) substitute(list []standing) uint16 {
	usable := func(s standing) bool { return s.connected && !s.draining && s.number != c.home }
	if s := find(list, c.standby); s != nil && usable(*s) {
		return s.number
	}
	return best(list, usable, byDistance)
}

// pick returns the best other relay than home; another than the standby, which
// was neither left lately nor drains, or none, if it is to replace it.
func (c *choice) pick(now time.Time, list []standing, replace bool) uint16 {
	left := func(s standing) int {
		if at, ok := c.given[s.number]; s.draining || ok && now.Sub(at) < givenUpFor {
			return 1
		}
		return 0
	}
	return best(list, func(s standing) bool {
		return s.number != c.home && (!replace || s.number != c.standby && left(s) == 0)
	}, func(a, b standing) int {
		return cmp.Or(cmp.Compare(left(a), left(b)), byReach(a, b), byDistance(a, b))
	})
}

func anyConnected(list []standing) bool {
	return slices.ContainsFunc(list, func(s standing) bool { return s.connected })
}

// closer reports whether a is nearer than b by the margin.
func closer(a, b *standing) bool {
	return a.distance+max(nearerBy, b.distance/nearerByPart) < b.distance
}

// nearest returns the nearest relay that can be reached, but one; nil: none.
func nearest(list []standing, but uint16) *standing {
	return find(list, best(list, func(s standing) bool {
		return s.number != but && s.reached && !s.draining && s.distance > 0
	}, byDistance))
}

// best returns the number of the least, the first of equals; 0: none.
func best(list []standing, ok func(standing) bool, less func(a, b standing) int) uint16 {
	var out *standing
	for i := range list {
		if ok(list[i]) && (out == nil || less(list[i], *out) < 0) {
			out = &list[i]
		}
	}
	if out == nil {
		return 0
	}
	return out.number
}

// byDistance puts what is not known last.
func byDistance(a, b standing) int {
	return cmp.Compare(uint64(a.distance-1), uint64(b.distance-1)) // 0 becomes the highest
}

func byReach(a, b standing) int {
	switch {
	case a.reached == b.reached:
		return 0
	case a.reached:
		return -1
	}
	return 1
}

func find(list []standing, number uint16) *standing {
	for i := range list {
		if list[i].number == number && number != 0 {
			return &list[i]
		}
	}
	return nil
}
