package proxy

import (
	"container/list"
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"nexd/internal/logkey"
	"nexd/rules"
)

// Bounds of a rule whose options do not say otherwise; see the package comment.
const (
	defaultConns     = 10_000
	defaultFlows     = 4096
	peerConns        = 5000
	peerFlows        = 1024
	dialsAtOnce      = 256
	defaultDial      = 10 * time.Second
	defaultFlowIdle  = 60 * time.Second
	notStarted       = "not started yet"
	firstBackoff     = time.Second
	longestBackoff   = 30 * time.Second
	resolveAtStartup = 5 * time.Second
)

// ruleID identifies a rule with all its options.
type ruleID struct {
	direction rules.Direction
	text      string
}

func idOf(r rules.Rule) ruleID { return ruleID{r.Direction, r.String()} }

// rule is one applied rule: its bounds, its counters and its state.
type rule struct {
	rules.Rule
	id ruleID
	e  *Engine

	max, perPeer int
	dialTimeout  time.Duration
	idleTimeout  time.Duration

	trial atomic.Pointer[trial] // until the first attempt to listen

	total, in, out atomic.Int64
	stats          ruleStats

	flows list.List // of *flow, longest quiet first; guarded by the group's flow table

	mu       sync.Mutex      // guards the fields below
	ctx      context.Context // see life; nil until somebody connects
	end      context.CancelFunc
	over     bool          // its connections are to be cut
	dialling chan struct{} // a token for each attempt that may run; made with ctx
	active   int
	peers    map[netip.Addr]int
	retiring *time.Timer

	reachable   bool   // the destination's name resolved at least once
	noListener  string // why it does not listen; empty: it does
	partly      string // why it does not listen everywhere it should
	destination string // why the destination cannot be reached
	failures    int    // of the destination, in a row
	skip        int    // failures of the destination ever: the next address of its name (udp)
	retryAt     time.Time
}

// ruleStats mirrors Stats.
type ruleStats struct {
	refusedAllow, refusedMax, refusedPeer, refusedDial atomic.Int64
	dialErrors, resets, idleEnds, cut                  atomic.Int64
	evicted, unreachable, droppedIn, droppedOut        atomic.Int64
}

func newRule(e *Engine, r rules.Rule) *rule {
	n := &rule{
		Rule:        r,
		id:          idOf(r),
		e:           e,
		max:         r.Options.MaxConns,
		dialTimeout: r.Options.DialTimeout,
		idleTimeout: r.Options.IdleTimeout,
		noListener:  notStarted,
		reachable:   r.Target.Host == "",
	}
	perPeer := peerConns
	if r.Protocol == rules.UDP {
		perPeer = peerFlows
		if n.max == 0 {
			n.max = defaultFlows
		}
		if n.idleTimeout == 0 {
			n.idleTimeout = defaultFlowIdle
		}
	} else if n.max == 0 {
		n.max = defaultConns
	}
	n.perPeer = min(n.max, max(perPeer, n.max/2))
	if r.Direction == rules.Egress {
		n.perPeer = n.max // its clients are this host
	}
	if n.dialTimeout == 0 {
		n.dialTimeout = defaultDial
	}
	return n
}

// trial is what Apply waits for: rules that have not been tried yet.
type trial struct {
	left atomic.Int64
	over chan struct{} // closed when none is left
}

// newTrial makes the trial of new rules.
func newTrial(fresh []*rule) *trial {
	t := &trial{over: make(chan struct{})}
	t.left.Store(int64(len(fresh)))
	if len(fresh) == 0 {
		close(t.over)
	}
	for _, r := range fresh {
		r.trial.Store(t)
	}
	return t
}

// tried is called after each attempt to listen.
func (r *rule) tried() {
	if t := r.trial.Swap(nil); t != nil && t.left.Add(-1) == 0 {
		close(t.over)
	}
}

// life ends when the rule's connections are to be cut. It, and what bounds the
// attempts to dial, are made by the first call: most rules are not used by anybody.
func (r *rule) life() (ctx context.Context, dialling chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.ctx == nil {
		r.ctx, r.end = context.WithCancel(r.e.life)
		r.dialling = make(chan struct{}, dialsAtOnce)
		if r.over {
			r.end()
		}
	}
	return r.ctx, r.dialling
}

// cut ends the rule's connections.
func (r *rule) cut() {
	r.mu.Lock()
	r.over = true
	end := r.end
	r.mu.Unlock()
	if end != nil {
		end()
	}
}

// refusal is why a connection is not taken.
type refusal string

const (
	refusedAllow refusal = "not allowed"
	refusedMax   refusal = "too many connections"
	refusedPeer  refusal = "too many connections of this address"
	refusedDial  refusal = "destination unreachable"
)

func (r *rule) refused(why refusal) {
	switch why {
	case refusedAllow:
		r.stats.refusedAllow.Add(1)
	case refusedMax:
		r.stats.refusedMax.Add(1)
	case refusedPeer:
		r.stats.refusedPeer.Add(1)
	case refusedDial:
		r.stats.refusedDial.Add(1)
	}
}

// acquire takes a place for a connection of peer, or says why there is none.
func (r *rule) acquire(peer netip.Addr) refusal {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.peers[peer] >= r.perPeer {
		if r.perPeer == r.max {
			return refusedMax
		}
		return refusedPeer
	}
	if r.active >= r.max {
		return refusedMax
	}
	r.active++
	if r.peers == nil {
		r.peers = map[netip.Addr]int{}
	}
	r.peers[peer]++
	return ""
}

func (r *rule) release(peer netip.Addr) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.active--
	if r.peers[peer]--; r.peers[peer] <= 0 {
		delete(r.peers, peer)
	}
}

// retire lets the connections of a removed rule finish within d.
func (r *rule) retire(d time.Duration) {
	if r.Protocol == rules.UDP || d <= 0 {
		r.cut()
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.retiring = time.AfterFunc(d, r.cut)
}

// state says how the rule is and why. The caller holds mu.
func (r *rule) state() (state, why string) {
	switch {
	case r.noListener != "":
		return StateFailed, r.noListener
	case r.destination != "":
		return StateDegraded, r.destination
	case r.partly != "":
		return StateDegraded, r.partly
	}
	return StateListening, ""
}

// update changes the state under mu and reports a change to the log and to OnChange.
func (r *rule) update(change func()) {
	r.mu.Lock()
	state, why := r.state()
	change()
	now, reason := r.state()
	r.mu.Unlock()
	if state == now && why == reason {
		return
	}
	log := r.e.log.With(logkey.Direction, r.Direction.String(), logkey.Rule, r.id.text)
	switch {
	case now == state && why != notStarted: // another reason of the same trouble
	case now == StateListening:
		log.Info("rule listens")
	default:
		log.Warn("rule "+now, logkey.Reason, reason)
	}
	r.e.cfg.OnChange()
}

// listens records the result of an attempt to listen: why it does not, or
// where it does not.
func (r *rule) listens(problem, partly string) {
	r.update(func() { r.noListener, r.partly = problem, partly })
	r.tried()
}

// destinationFailed puts the destination off and says why.
func (r *rule) destinationFailed(err error) {
	r.stats.dialErrors.Add(1)
	r.update(func() {
		if now := time.Now(); !now.Before(r.retryAt) { // else it failed together with others
			r.failures++
			r.retryAt = now.Add(backoff(r.failures))
		}
		r.skip++
		r.destination = err.Error()
	})
}

// destinationWorks takes back what destinationFailed said.
func (r *rule) destinationWorks() {
	r.mu.Lock()
	fine := r.destination == ""
	r.mu.Unlock()
	if !fine {
		r.update(func() { r.failures, r.retryAt, r.destination = 0, time.Time{}, "" })
	}
}

// backoff is the wait after the n-th failure in a row, n from 1.
func backoff(n int) time.Duration {
	if n > 5 {
		return longestBackoff
	}
	return min(firstBackoff<<(n-1), longestBackoff)
}

func (r *rule) status() RuleStatus {
	s := RuleStatus{
		Rule: r.Rule, Total: r.total.Load(), BytesIn: r.in.Load(), BytesOut: r.out.Load(),
		Stats: Stats{
			RefusedAllow: r.stats.refusedAllow.Load(), RefusedMax: r.stats.refusedMax.Load(),
			RefusedPeer: r.stats.refusedPeer.Load(), RefusedDial: r.stats.refusedDial.Load(),
			DialErrors: r.stats.dialErrors.Load(), Resets: r.stats.resets.Load(),
			IdleEnds: r.stats.idleEnds.Load(), Cut: r.stats.cut.Load(),
			Evicted: r.stats.evicted.Load(), Unreachable: r.stats.unreachable.Load(),
			DroppedIn: r.stats.droppedIn.Load(), DroppedOut: r.stats.droppedOut.Load(),
		},
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.State, s.Error = r.state()
	s.Active = int64(r.active)
	return s
}
