package discovery

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"nexd/internal/stunwire"
)

// guesser is the easy side of a round of guesses. It does no I/O.
type guesser struct {
	ip    netip.Addr
	ports []uint16 // still to be tried, none twice
	due   time.Time
	asked map[stunwire.TxID]ask // at most maxGuesses
}

// firstPort is where NATs begin to give out ports.
const firstPort = 1024

func newGuesser(ip netip.Addr, start time.Time) *guesser {
	g := &guesser{ip: ip, due: start, asked: make(map[stunwire.TxID]ask, maxGuesses)}
	chosen := make(map[uint16]bool, maxGuesses)
	for len(g.ports) < maxGuesses {
		port := uint16(firstPort + rand.IntN(1<<16-firstPort))
		if !chosen[port] {
			chosen[port] = true
			g.ports = append(g.ports, port)
		}
	}
	return g
}

// tick returns the port to be tried now. Guesses missed by a late call are not
// made up for in a burst: the next one is due at once, no more.
func (g *guesser) tick(now time.Time) (to netip.AddrPort, ok bool) {
	if len(g.ports) == 0 || now.Before(g.due) {
		return to, false
	}
	to = netip.AddrPortFrom(g.ip, g.ports[0])
	g.ports = g.ports[1:]
	g.due = latest(g.due.Add(guessPace), now)
	return to, true
}

// next is when tick has something to do; zero: never again.
func (g *guesser) next() time.Time {
	if len(g.ports) == 0 {
		return time.Time{}
	}
	return g.due
}

// opener is the hard side of a round of guesses, for sockets known by their
// numbers. It does no I/O.
type opener struct {
	to     []netip.AddrPort // where guesses come from, at most maxOutside
	count  int              // sockets; 0: not opened yet
	opened int              // of them that sent their first checks
	due    time.Time        // for the next of them
	heard  map[int]bool     // those a check of the peer came to, at most maxHeard
	back   []holeCheck      // checks back, by time
	asked  map[stunwire.TxID]holeAsk
}

// holeCheck is a check from a socket.
type holeCheck struct {
	at   time.Time
	hole int
	to   netip.AddrPort
}

// holeAsk is one whose answer is awaited.
type holeAsk struct {
	hole int
	to   netip.AddrPort
	at   time.Time
}

// backAt are the times of the checks back from a socket a check came to.
var backAt = [...]time.Duration{0, 100e6, 200e6, 400e6, 800e6}

func newOpener(to []netip.AddrPort, now time.Time) *opener {
	return &opener{to: to, due: now, heard: make(map[int]bool), asked: make(map[stunwire.TxID]holeAsk)}
}

// tick returns the checks to be sent now.
func (o *opener) tick(now time.Time) (send []holeCheck) {
	for ; o.opened < o.count && !now.Before(o.due); o.opened++ {
		for _, to := range o.to {
			send = append(send, holeCheck{now, o.opened, to})
		}
		o.due = o.due.Add(holePace)
	}
	for len(o.back) > 0 && !o.back[0].at.After(now) {
		send = append(send, o.back[0])
		o.back = o.back[1:]
	}
	return send
}

// next is when tick has something to do; zero: only after an event.
func (o *opener) next() time.Time {
	var at time.Time
	if o.opened < o.count {
		at = o.due
	}
	if len(o.back) > 0 && (at.IsZero() || o.back[0].at.Before(at)) {
		at = o.back[0].at
	}
	return at
}

// checked: a verified check of the peer came to a socket.
func (o *opener) checked(now time.Time, hole int, from netip.AddrPort) {
	if o.heard[hole] || len(o.heard) >= maxHeard {
		return
	}
	o.heard[hole] = true
	for _, d := range backAt {
		o.back = append(o.back, holeCheck{now.Add(d), hole, from})
	}
	slices.SortStableFunc(o.back, func(x, y holeCheck) int { return x.at.Compare(y.at) })
}

// sent notes the transaction of a check.
func (o *opener) sent(id stunwire.TxID, c holeCheck, now time.Time) {
	o.asked[id] = holeAsk{c.hole, c.to, now}
}

// answers reports whether an answer that came to a socket is one to a check
// sent from it to there. Who asks has verified it.
func (o *opener) answers(id stunwire.TxID, hole int, from netip.AddrPort) (holeAsk, bool) {
	x, ok := o.asked[id]
	return x, ok && x.hole == hole && x.to == from
}
