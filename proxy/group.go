package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nexd/internal/duplex"
	"nexd/internal/logkey"
	"nexd/rules"
)

// group is one listening key: its sockets and the rules that share them. Its
// errand (step) owns the sockets; everybody may poke it.
type group struct {
	e     *Engine
	key   rules.ListenKey
	front side // where it listens
	back  side // where it dials
	rules atomic.Pointer[[]*rule]
	turn  atomic.Uint32
	flows flowTable // udp

	stopped atomic.Bool // it is to stop accepting
	removed atomic.Bool
	poked   atomic.Bool
	started bool           // guarded by Engine.mu
	ended   sync.WaitGroup // 1 while it runs

	// lookup ends the names being looked up; nil while none is.
	lookup atomic.Pointer[context.CancelFunc]

	errand   *duplex.Errand
	failures int // in a row
	retry    *time.Timer
	sockets  []*socket
	serving  sync.WaitGroup // open sockets
}

// socket is one open listening address.
type socket struct {
	addr  netip.Addr
	close func()
	dead  atomic.Bool    // it ended by itself
	open  sync.WaitGroup // 1 until it has ended
}

func newGroup(e *Engine, key rules.ListenKey) *group {
	g := &group{e: e, key: key, front: e.host, back: e.mesh}
	if key.Direction == rules.Ingress {
		g.front, g.back = e.mesh, e.host
	}
	g.flows.g = g
	g.errand = e.mover.NewErrand(g.step)
	return g
}

// start makes the group listen until it is stopped. Engine.mu is held.
func (g *group) start() {
	g.started = true
	g.ended.Add(1)
	g.e.working.Add(1)
}

// stop makes the group end, if it was started. Engine.mu is held.
func (g *group) stop() {
	g.stopped.Store(true)
	if cancel := g.lookup.Load(); cancel != nil {
		(*cancel)()
	}
	g.poke()
}

// poke makes a group that was started look at its rules and addresses again, soon.
// Engine.mu is held.
func (g *group) poke() {
	if g.started {
		g.poked.Store(true)
		g.errand.Wake()
	}
}

// remove ends the group at once: its port is wanted back. Engine.mu is held.
func (g *group) remove() {
	g.removed.Store(true)
	g.stop()
}

// step brings the group to where it should be. It is called once at a time.
func (g *group) step() (over bool) {
	if g.retry != nil {
		g.retry.Stop()
		g.retry = nil
	}
	if g.stopped.Load() || g.e.life.Err() != nil {
		g.end()
		g.ended.Done()
		g.e.working.Done()
		return true
	}
	if g.poked.Swap(false) {
		g.failures = 0
	}
	if g.reconcile() {
		g.failures = 0
	} else {
		g.failures++
		g.retry = time.AfterFunc(backoff(g.failures), g.errand.Wake)
	}
	return false
}

// end closes the sockets; those of datagrams first let flows answer.
func (g *group) end() {
	if g.key.Protocol == rules.UDP && !g.removed.Load() {
		g.flows.drain(g.e.life)
	}
	g.closeAll()
	g.serving.Wait()
	g.flows.close()
}

func (g *group) closeAll() {
	for _, s := range g.sockets {
		s.shut()
	}
	g.sockets = nil
}

// shut closes the socket and waits until it has ended.
func (s *socket) shut() {
	s.close()
	s.open.Wait()
}

// reconcile brings names and sockets to where they should be, tells the rules
// their state, and reports whether nothing is left to try again.
func (g *group) reconcile() bool {
	rs := *g.rules.Load()
	problems := g.resolve(rs)
	if len(problems) == len(rs) {
		g.closeAll()
		for _, r := range rs {
			r.listens(problems[r], "")
		}
		return false
	}
	before := len(g.sockets)
	g.e.opening <- struct{}{}
	err := g.listen()
	<-g.e.opening
	problem, partly := "", ""
	switch {
	case err != nil && before > 0 && len(g.sockets) > 0:
		partly = err.Error() // what listened goes on
	case err != nil:
		problem = err.Error()
		g.closeAll()
	}
	for _, r := range rs {
		if p := problems[r]; p != "" {
			r.listens(p, "")
		} else {
			r.listens(problem, partly)
		}
	}
	return err == nil && len(problems) == 0
}

// resolve looks up the destinations that are names and never resolved, all at
// once, and returns what is wrong with them.
func (g *group) resolve(rs []*rule) map[*rule]string {
	var unknown []*rule
	for _, r := range rs {
		r.mu.Lock()
		if !r.reachable {
			unknown = append(unknown, r)
		}
		r.mu.Unlock()
	}
	if len(unknown) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(g.e.life, resolveAtStartup)
	defer cancel()
	g.lookup.Store(&cancel)
	defer g.lookup.Store(nil)
	if g.stopped.Load() {
		cancel()
	}
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		problems = map[*rule]string{}
	)
	for _, r := range unknown {
		wg.Go(func() {
			_, err := g.back.resolve(ctx, r.Target)
			if err == nil {
				r.mu.Lock()
				r.reachable = true
				r.mu.Unlock()
				return
			}
			mu.Lock()
			problems[r] = err.Error()
			mu.Unlock()
		})
	}
	wg.Wait()
	return problems
}

// listen opens the sockets that are missing and closes those not wanted any more.
func (g *group) listen() error {
	points, err := g.front.points(g.key)
	if err != nil {
		g.closeAll()
		return err
	}
	g.sockets = slices.DeleteFunc(g.sockets, func(s *socket) bool {
		useless := s.dead.Load() || !slices.ContainsFunc(points, func(p point) bool { return p.addr == s.addr })
		if useless {
			s.shut()
		}
		return useless
	})
	var failed error
	for _, p := range points {
		if slices.ContainsFunc(g.sockets, func(s *socket) bool { return s.addr == p.addr }) {
			continue
		}
		if err := g.open(p.addr); err != nil {
			if p.mayLack && lacks(err) {
				continue
			}
			failed = listenError(g.key, netip.AddrPortFrom(p.addr, g.key.Port), err)
			break
		}
	}
	if failed == nil && len(g.sockets) == 0 {
		failed = fmt.Errorf("listen on %s port %d: no address to listen on", g.key.Protocol, g.key.Port)
	}
	return failed
}

// open opens one socket and has it served.
func (g *group) open(addr netip.Addr) error {
	at := netip.AddrPortFrom(addr, g.key.Port)
	s := &socket{addr: addr}
	s.open.Add(1)
	ended := func(err error) { g.socketEnded(s, err) }
	if g.key.Protocol == rules.UDP {
		pc, err := g.front.listenPacket(at)
		if err != nil {
			return err
		}
		s.close = func() { _ = pc.close() }
		g.serving.Add(1)
		go func() { ended(g.receive(pc)) }()
	} else {
		ln, err := g.front.listenStream(at)
		if err != nil {
			return err
		}
		g.serving.Add(1)
		s.close = g.e.mover.Accept(ln, g.admit, ended)
	}
	g.sockets = append(g.sockets, s)
	return nil
}

// socketEnded is called when a socket is not served any more, with an error if
// nobody had closed it.
func (g *group) socketEnded(s *socket, err error) {
	defer g.serving.Done()
	defer s.open.Done()
	if err != nil {
		g.e.log.Warn("listener ended", logkey.Addr, netip.AddrPortFrom(s.addr, g.key.Port), logkey.Err, err)
		s.dead.Store(true)
		// Not at once: what killed it may kill the next one too.
		time.AfterFunc(firstBackoff, g.again)
	}
}

// again makes a group that was started look at its sockets once more, soon.
func (g *group) again() {
	g.e.mu.Lock()
	defer g.e.mu.Unlock()
	if g.started {
		g.errand.Wake()
	}
}
