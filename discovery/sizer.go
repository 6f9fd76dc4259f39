package discovery

import (
	"slices"
	"time"
)

// sizer finds the largest packet one path carries, by padded checks: packetization
// layer path MTU discovery (RFC 8899, and RFC 4821 before it). Sizes are those of
// packets inside the tunnel. It does no I/O and decides for one direction, ours.
//
//	          begin: the path is in use
//	base ────────────────────────────────► search ──────────► complete
//	 ▲  ▲                                  │  ▲   no size is    │   │
//	 │  └── begin: the path is another ────┤  │   left to try   │   │ raiseAt
//	 │                                     │  └─────────────────┼───┘
//	 └──── a size in use does not pass ────┴────────────────────┘
//	       any more (a black hole)
//
// The base is in use from the first packet on and is never asked for: every IPv6
// network carries it, in fragments if need be. A search begins with the sizes
// that paths mostly have, all at once, so that it ends within a round trip on
// most; then it halves what is left between what passed and what did not. Each
// size gets three tries, one in use five. A try is lost only when a check that was sent after it,
// and is smaller, was answered: on a path that is silent or slow nothing is
// concluded. An answer counts however late it comes, but not across a beginning.
type sizer struct {
	top      int       // the largest that is looked for; baseMTU: nothing is
	mtu      int       // what may be used: proved, or baseMTU
	proved   time.Time // when a check of mtu was last answered
	hint     int       // a size worth a try; 0: none
	began    time.Time // what was sent before says nothing of the path
	fresh    bool      // the next step is the first of a search
	ceiling  int       // the least size that did not pass; 0: none
	refused  bool      // the ceiling is what this host knows, which costs no packet to ask
	open     []sizeTry // largest first
	sent     time.Time // when a padded check was last sent
	raiseAt  time.Time // when a search that ended is begun again; zero: it goes on, or is not needed
	holes    int       // black holes met lately
	holeAt   time.Time // the last of them
	overtook passed    // the last check, in the order they were sent, that was answered
	reason   string    // of the last change of mtu
}

// sizeTry is a size that was asked for.
type sizeTry struct {
	size  int
	tries int
	sent  time.Time
	again time.Time // it was held back until then; zero: it was sent
	asked time.Time // when a small check was sent to overtake it; zero: not yet
}

// passed is a check that was answered.
type passed struct {
	sent time.Time
	size int // 0: it was not padded
	at   time.Time
}

// after reports whether a check was sent after one of a size: of those of one
// moment the larger goes first.
func (p passed) after(sent time.Time, size int) bool {
	return p.sent.After(sent) || p.sent.Equal(sent) && p.size < size
}

// Sizes in bytes, inside the tunnel. WireGuard adds 32 and pads to a multiple
// of 16, so all but the largest, which is never padded, are such multiples.
const (
	baseMTU = 1280 // BASE_PLPMTU of RFC 8899
	// maxRelayMTU is what an Ethernet carries in a relay's frame, by IPv4 and
	// IPv6. Larger ones would seem to pass: a relay lets its leg be fragmented.
	maxRelayMTU = 1408
	topMTU      = 8920 // 9000 less IPv6, UDP and WireGuard
	sealedBy    = 32
)

// rungs are the sizes that paths may have: each step below Ethernet's, where
// tunnels take away their headers, and the networks with larger packets.
var rungs = func() []int {
	var all []int
	for size := baseMTU + 16; size <= 1440; size += 16 {
		all = append(all, size)
	}
	return append(all,
		3824,   // 3900, of a cloud
		8432,   // 8500 by IPv4, between regions of another
		8816,   // 8896, of a third
		8864,   // 8950: an overlay on 9000
		topMTU, // 9000 and more
	)
}()

// common are those tried together at first: Ethernet's 1500 by IPv4, the same by
// IPv6 or under PPPoE, and 1400 as tunnels and mobile networks have it.
var common = []int{1440, 1408, 1328}

// Reasons of a step back that each path begins with.
const (
	otherPath = "the path is another"
	noPath    = "there is no path"
)

// Times.
const (
	searchTries = 3 // MAX_PROBES of RFC 8899
	verifyTries = 5 // of a size in use: one packet in ten may get lost without being taken for too large
	lateBy      = 20 * time.Millisecond
	raiseEvery  = 10 * time.Minute // PMTU_RAISE_TIMER
	raiseKnown  = time.Minute      // where only this host stands against it
	holeFirst   = time.Minute      // after a black hole; doubled with each further one
	holeLast    = 16 * time.Minute
	holeForget  = time.Hour
	heldFor     = 200 * time.Millisecond // a check over the budget
)

func newSizer(top int) *sizer { return &sizer{top: max(top, baseMTU), mtu: baseMTU, fresh: true} }

// begin starts over: the path is used from now on. What was learnt of it before is
// a hint, and ceilings hold as long as they did.
func (s *sizer) begin(now time.Time, hint int) {
	if s.mtu > baseMTU {
		hint = s.mtu
	}
	s.mtu, s.hint, s.reason, s.began = baseMTU, hint, otherPath, now
	s.open, s.overtook = nil, passed{}
	s.search(now)
}

// forget drops what is known of the path: the network is another.
func (s *sizer) forget(now time.Time) {
	s.ceiling, s.raiseAt, s.holes, s.mtu = 0, time.Time{}, 0, baseMTU
	s.begin(now, 0)
}

func (s *sizer) search(now time.Time) {
	if !s.raiseAt.IsZero() && !now.Before(s.raiseAt) {
		s.ceiling, s.raiseAt = 0, time.Time{}
	}
	s.fresh = true
}

// step returns the sizes to ask for now, largest first, when nothing is asked for.
func (s *sizer) step(now time.Time) []int {
	if len(s.open) > 0 || s.top <= baseMTU {
		return nil
	}
	if !s.raiseAt.IsZero() {
		if now.Before(s.raiseAt) && !s.fresh {
			return nil
		}
		s.search(now)
	}
	var sizes []int
	if s.fresh {
		s.fresh = false
		for _, size := range append([]int{s.top, s.hint}, common...) {
			if s.possible(size) && !slices.Contains(sizes, size) {
				sizes = append(sizes, size)
			}
		}
		slices.SortFunc(sizes, func(a, b int) int { return b - a })
	}
	if len(sizes) == 0 {
		var left []int
		for _, size := range rungs {
			if s.possible(size) {
				left = append(left, size)
			}
		}
		if len(left) > 0 {
			sizes = []int{left[len(left)/2]}
		}
	}
	if len(sizes) == 0 && s.mtu < s.top && s.raiseAt.IsZero() {
		s.raiseAt = now.Add(s.pause(now))
	}
	for _, size := range sizes {
		s.open = append(s.open, sizeTry{size: size, tries: 1, sent: now})
		s.sent = now
	}
	return sizes
}

// possible reports whether a size is worth a check.
func (s *sizer) possible(size int) bool {
	return size > s.mtu && size <= s.top && (s.ceiling == 0 || size < s.ceiling)
}

// pause is how long the ceiling holds.
func (s *sizer) pause(now time.Time) time.Duration {
	switch {
	case s.refused:
		return raiseKnown
	case s.holes > 0 && within(s.holeAt, now, holeForget):
		return min(holeFirst<<min(s.holes-1, 8), holeLast)
	}
	return raiseEvery
}

// verify asks whether the size in use still passes.
func (s *sizer) verify(now time.Time) (size int, ok bool) {
	if s.mtu <= baseMTU || s.verifying() {
		return 0, false
	}
	s.open = append(s.open, sizeTry{size: s.mtu, tries: 1, sent: now})
	s.sent = now
	return s.mtu, true
}

// verifying reports whether that is asked for just now.
func (s *sizer) verifying() bool { return len(s.open) > 0 && s.open[len(s.open)-1].size <= s.mtu }

// due returns what to do at now: sizes to ask for once more, largest first, and
// whether a small check is to follow, to overtake them.
func (s *sizer) due(now time.Time, rto time.Duration) (sizes []int, small bool) {
	s.giveUp(now)
	for i := range s.open {
		t := &s.open[i]
		switch {
		case !t.again.IsZero():
			if now.Before(t.again) {
				continue
			}
		case s.lost(t, now):
			t.tries++
		case now.Sub(latest(t.sent, t.asked)) >= rto:
			t.asked, small = now, true
			continue
		default:
			continue
		}
		t.sent, t.asked, t.again, s.sent = now, now, time.Time{}, now
		sizes, small = append(sizes, t.size), true
	}
	return sizes, small
}

// giveUp ends with the sizes whose last try is lost.
func (s *sizer) giveUp(now time.Time) {
	for i := len(s.open) - 1; i >= 0; i-- {
		if t := &s.open[i]; t.tries >= s.tries(t) && s.lost(t, now) {
			s.fail(now, t.size, false)
			return // those above it went with it
		}
	}
}

// tries is how often a size is asked for.
func (s *sizer) tries(t *sizeTry) int {
	if t.size <= s.mtu {
		return verifyTries
	}
	return searchTries
}

// overtaken: a check that was sent after the try has been answered.
func (s *sizer) overtaken(t *sizeTry) bool {
	return t.again.IsZero() && s.overtook.after(t.sent, t.size)
}

// lost: it was overtaken, and that is not a matter of chance.
func (s *sizer) lost(t *sizeTry, now time.Time) bool {
	return s.overtaken(t) && !now.Before(s.overtook.at.Add(lateBy))
}

// answered: a check was answered; size 0: a small one.
func (s *sizer) answered(now, sent time.Time, size int) {
	if sent.Before(s.began) {
		return
	}
	if s.overtook.at.IsZero() || (passed{sent: sent, size: size}).after(s.overtook.sent, s.overtook.size) {
		s.overtook = passed{sent, size, now}
	}
	if size < s.mtu || size <= baseMTU || size > s.top {
		return
	}
	s.open = slices.DeleteFunc(s.open, func(t sizeTry) bool { return t.size <= size })
	s.proved = now
	if s.ceiling != 0 && size >= s.ceiling {
		s.ceiling, s.raiseAt = 0, time.Time{}
	}
	if size > s.mtu {
		s.mtu, s.reason = size, "a check of that size passed"
	}
}

// fail: a size does not pass. known: this host says so by itself.
func (s *sizer) fail(now time.Time, size int, known bool) {
	s.open = slices.DeleteFunc(s.open, func(t sizeTry) bool { return t.size >= size })
	if s.ceiling == 0 || size < s.ceiling {
		s.ceiling, s.refused, s.raiseAt = size, known, time.Time{}
	}
	if size > s.mtu {
		return
	}
	s.reason = "the path carries less now"
	if !known {
		s.reason = "packets of that size vanish"
		if !within(s.holeAt, now, holeForget) {
			s.holes = 0
		}
		s.holes, s.holeAt = s.holes+1, now
	}
	s.mtu, s.hint, s.open = baseMTU, 0, nil
	s.fresh = true
}

// held: a check was not sent, for the budget.
func (s *sizer) held(now time.Time, size int) {
	for i := range s.open {
		if s.open[i].size == size {
			s.open[i].again = now.Add(heldFor)
		}
	}
}

// drop takes a size as not asked for.
func (s *sizer) drop(size int) {
	s.sent = time.Time{} // the question may be asked otherwise at once
	s.open = slices.DeleteFunc(s.open, func(t sizeTry) bool { return t.size == size })
}

// cancel takes all that is asked for as not asked: the path is in doubt.
func (s *sizer) cancel() {
	s.fresh = s.fresh || len(s.open) > 0 && s.open[0].size > s.mtu
	s.open = nil
}

// next is when due has something to do; zero: only after an event.
func (s *sizer) next(rto time.Duration) (at time.Time) {
	for i := range s.open {
		t := &s.open[i]
		due := latest(t.sent, t.asked).Add(rto)
		switch {
		case !t.again.IsZero():
			due = t.again
		case s.overtaken(t):
			due = s.overtook.at.Add(lateBy)
		}
		if at.IsZero() || due.Before(at) {
			at = due
		}
	}
	return at
}
