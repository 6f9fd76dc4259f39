package proxy

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"nexd/internal/duplex"
	"nexd/internal/logkey"
	"nexd/rules"
)

const (
	defaultDrain = 10 * time.Second
	// opensAtOnce bounds how many groups open sockets at a time: more would be no
	// faster, and a thousand rules at once would need a thousand large stacks.
	opensAtOnce = 8
	applyWait   = 2 * time.Second // for the first try of new rules, within Apply
)

// Engine runs rules. Make one with New; it does nothing until Run.
type Engine struct {
	cfg  Config
	log  *slog.Logger
	host side
	mesh side

	mover *duplex.Mover // has the connections

	// refusals bounds the debug lines about refused connections.
	refusals *rate.Limiter

	// opening holds a token for each group that opens sockets now.
	opening chan struct{}

	// applying holds one token: changes of the rules happen one after another.
	applying chan struct{}

	life    context.Context // ends when connections are to be cut
	cutAll  context.CancelFunc
	working sync.WaitGroup // groups, connections, flows

	mu       sync.Mutex // guards the fields below
	started  bool
	draining bool
	wanted   []rules.Rule // before it has started
	order    []*rule      // as applied
	groups   map[rules.ListenKey]*group
}

// New returns an engine without rules.
func New(cfg Config) *Engine {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	switch {
	case cfg.DrainTimeout == 0:
		cfg.DrainTimeout = defaultDrain
	case cfg.DrainTimeout < 0:
		cfg.DrainTimeout = 0
	}
	if cfg.OnChange == nil {
		cfg.OnChange = func() {}
	}
	e := &Engine{
		cfg:      cfg,
		log:      cfg.Log,
		host:     newHostSide(),
		mesh:     newMeshSide(cfg.Mesh, cfg.Directory),
		mover:    duplex.NewMover(),
		refusals: rate.NewLimiter(1, 10),
		opening:  make(chan struct{}, opensAtOnce),
		applying: make(chan struct{}, 1),
		groups:   map[rules.ListenKey]*group{},
	}
	e.life, e.cutAll = context.WithCancel(context.Background())
	return e
}

// Run listens for the applied rules and keeps trying those that fail. When ctx
// ends it stops accepting, gives connections the drain timeout to finish,
// closes the rest and returns nil. It runs once.
func (e *Engine) Run(ctx context.Context) error {
	e.applying <- struct{}{}
	e.mu.Lock()
	wanted := e.wanted
	e.mu.Unlock()
	e.apply(wanted)
	<-e.applying

	<-ctx.Done()
	drain, cancel := context.WithTimeout(context.Background(), e.cfg.DrainTimeout)
	defer cancel()
	e.Drain(drain)
	return nil
}

// Apply makes the given rules the ones that run. A rule that was there before,
// with all its options, keeps its listener and connections; one that is gone
// stops accepting and drains. It returns when every new rule has been tried
// once, or after two seconds. Before Run it only keeps the rules.
func (e *Engine) Apply(wanted []rules.Rule) {
	e.applying <- struct{}{}
	defer func() { <-e.applying }()
	wanted = slices.Clone(wanted)
	e.mu.Lock()
	e.wanted = wanted
	idle := !e.started || e.draining
	e.mu.Unlock()
	if !idle {
		e.apply(wanted)
	}
}

// apply is Apply for the holder of the token.
func (e *Engine) apply(wanted []rules.Rule) {
	tried, stopped := e.change(wanted)
	for _, g := range stopped {
		g.ended.Wait() // its ports are free
	}
	e.mu.Lock()
	for _, g := range e.groups {
		if !g.started && !e.draining {
			g.start()
		}
		g.poke()
	}
	e.mu.Unlock()

	late := time.NewTimer(applyWait)
	defer late.Stop()
	select {
	case <-tried:
	case <-late.C:
	case <-e.life.Done():
	}
}

// change moves the tables to the wanted rules and returns the groups that are
// ending; tried is closed when each new rule has been tried once.
func (e *Engine) change(wanted []rules.Rule) (tried <-chan struct{}, stopped []*group) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.started = true
	present := make(map[ruleID]*rule, len(e.order))
	for _, r := range e.order {
		present[r.id] = r
	}
	byKey := map[rules.ListenKey][]*rule{}
	var fresh []*rule
	order := make([]*rule, 0, len(wanted))
	taken := map[ruleID]bool{}
	for _, w := range wanted {
		id := idOf(w)
		if taken[id] {
			continue
		}
		taken[id] = true
		r := present[id]
		if r == nil {
			r = newRule(e, w)
			fresh = append(fresh, r)
		}
		order = append(order, r)
		byKey[w.Key()] = append(byKey[w.Key()], r)
	}
	for _, r := range e.order {
		if !taken[r.id] {
			r.retire(e.cfg.DrainTimeout)
		}
	}
	for key, g := range e.groups {
		if byKey[key] == nil {
			g.remove()
			delete(e.groups, key)
			if g.started {
				stopped = append(stopped, g)
			}
		}
	}
	for key, rs := range byKey {
		g := e.groups[key]
		if g == nil {
			g = newGroup(e, key)
			e.groups[key] = g
		}
		g.rules.Store(&rs)
	}
	e.order, e.wanted = order, nil
	return newTrial(fresh).over, stopped
}

// AddressesChanged tells the engine that this device's mesh addresses or the
// directory changed: listeners move, and rules that failed are tried at once.
func (e *Engine) AddressesChanged() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, g := range e.groups {
		g.poke()
	}
}

// Status returns the rules in the order they were applied; the caller owns it.
func (e *Engine) Status() []RuleStatus {
	e.mu.Lock()
	order, wanted, started := e.order, e.wanted, e.started
	e.mu.Unlock()
	if !started {
		out := make([]RuleStatus, len(wanted))
		for i, w := range wanted {
			out[i] = RuleStatus{Rule: w, State: StateFailed, Error: notStarted}
		}
		return out
	}
	out := make([]RuleStatus, len(order))
	for i, r := range order {
		out[i] = r.status()
	}
	return out
}

// Drain stops accepting and waits until every connection has finished; those
// that have not when ctx ends are closed. Nothing is accepted afterwards.
func (e *Engine) Drain(ctx context.Context) {
	stop := context.AfterFunc(ctx, func() {
		if n := e.active(); n > 0 {
			e.log.Warn("the time to finish is over: connections are cut", logkey.Count, n)
		}
		e.cutAll()
	})
	defer stop()
	e.mu.Lock()
	e.draining = true
	for _, g := range e.groups {
		g.stop()
	}
	e.mu.Unlock()
	e.working.Wait()
	e.cutAll()
	e.mover.Close()
}

// active returns the number of connections and flows there are now.
func (e *Engine) active() int64 {
	var n int64
	for _, st := range e.Status() {
		n += st.Active
	}
	return n
}
