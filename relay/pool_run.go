package relay

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"
)

// poolRunner is the state of Run's goroutine.
type poolRunner struct {
	p        *Pool
	choice   choice
	sessions map[*member]*poolSession
	running  sync.WaitGroup

	list     []*member // of the last step
	round    round
	measures map[*member]measure
}

// Run keeps the sessions until ctx ends, then says goodbye and returns nil. It
// may be called once.
func (p *Pool) Run(ctx context.Context) error {
	if p.ran.Swap(true) {
		return errors.New("relay pool: Run was called before")
	}
	ctx, cancel := context.WithCancel(ctx)
	r := &poolRunner{
		p: p, sessions: map[*member]*poolSession{}, measures: map[*member]measure{},
		round: round{resolved: make(chan resolvedProbe, 4*maxProbed)},
	}
	defer func() {
		cancel()
		r.stop()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		next := r.step(ctx, time.Now())
		timer.Reset(time.Until(next))
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-p.kick:
			if p.woken.Swap(false) {
				r.wake()
			}
		case a := <-p.answers:
			r.answered(a)
		case a := <-r.round.resolved:
			r.send(a.probe.start(time.Now(), a.addrs))
		}
	}
}

// wake has sessions and measurements look at once: the network may be another.
func (r *poolRunner) wake() {
	for _, s := range r.sessions {
		s.client.Wake()
	}
	r.round.again = true
}

// step does what is due and returns when something will be.
func (r *poolRunner) step(ctx context.Context, now time.Time) time.Time {
	p := r.p
	p.mu.Lock()
	list := slices.Clone(p.list)
	p.mu.Unlock()
	r.follow(list)
	next := r.measure(ctx, now, list)
	state := r.standings(now, list)
	next = earlier(next, r.choice.step(now, state))
	next = earlier(next, r.keep(ctx, now, list, state))
	r.tell(state)
	return next
}

// standings says how each relay of the list stands.
func (r *poolRunner) standings(now time.Time, list []*member) []standing {
	out := make([]standing, 0, len(list))
	for _, m := range list {
		known := r.measures[m]
		s := standing{number: m.number, reached: known.rtt > 0, distance: known.distance()}
		if session := r.sessions[m]; session != nil {
			st := session.client.Status()
			s.connected, s.draining = st.Transport != NoTransport, st.Draining
			s.reached = s.reached || s.connected
			if s.distance == 0 && s.connected {
				s.distance = measureOf(st).distance()
			}
			if !s.connected && !errors.Is(st.Err, ErrNoCredential) {
				s.down = max(now.Sub(st.Since), 1)
			}
		}
		out = append(out, s)
	}
	return out
}
