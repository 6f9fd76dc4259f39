package proxy

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"nexd/internal/logkey"
	"nexd/rules"
)

// group is one listening key: its sockets and the rules that share them. Its
// goroutine (run) owns the sockets; everybody may poke it.
type group struct {
	e     *Engine
	key   rules.ListenKey
	front side // where it listens
	back  side // where it dials
	rules atomic.Pointer[[]*rule]
	turn  atomic.Uint32
	flows flowTable // udp

	ctx     context.Context // ends when it is to stop accepting
	stop    context.CancelFunc
	removed atomic.Bool
	poked   chan struct{}
	died    chan struct{} // a socket's loop ended by itself
	done    chan struct{}
	started bool // guarded by Engine.mu

	sockets map[netip.Addr]*socket
	serving sync.WaitGroup // loops over the sockets
}

// socket is one open listening address.
type socket struct {
	addr  netip.Addr
	close func()
	dead  atomic.Bool   // its loop ended by itself
	done  chan struct{} // its loop has ended
}

func newGroup(e *Engine, key rules.ListenKey) *group {
	g := &group{
		e: e, key: key, front: e.host, back: e.mesh,
		poked:   make(chan struct{}, 1),
		died:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		sockets: map[netip.Addr]*socket{},
	}
	if key.Direction == rules.Ingress {
		g.front, g.back = e.mesh, e.host
	}
	g.flows.init(g)
	g.ctx, g.stop = context.WithCancel(e.life)
	return g
}

// poke makes the group look at its rules and addresses again, soon.
func (g *group) poke() {
	select {
	case g.poked <- struct{}{}:
	default:
	}
}

// remove ends the group at once: its port is wanted back.
func (g *group) remove() {
	g.removed.Store(true)
	g.stop()
}

// run keeps the group listening until it is stopped.
func (g *group) run() {
	defer g.e.working.Done()
	defer close(g.done)
	failures := 0
	for {
		var retry <-chan time.Time
		var timer *time.Timer
		if g.reconcile() {
			failures = 0
		} else {
			failures++
			timer = time.NewTimer(backoff(failures))
			retry = timer.C
		}
		select {
		case <-g.ctx.Done():
			g.end()
			return
		case <-g.poked:
			failures = 0
		case <-g.died:
			// Not at once: what killed it may kill the next one too.
			select {
			case <-g.ctx.Done():
			case <-time.After(firstBackoff):
			}
		case <-retry:
		}
		if timer != nil {
			timer.Stop()
		}
	}
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
		g.closeSocket(s)
	}
}

func (g *group) closeSocket(s *socket) {
	s.close()
	<-s.done
	delete(g.sockets, s.addr)
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
	err := g.listen()
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
	var (
		wg       sync.WaitGroup
		mu       sync.Mutex
		problems = map[*rule]string{}
	)
	for _, r := range rs {
		r.mu.Lock()
		reachable := r.reachable
		r.mu.Unlock()
		if reachable {
			continue
		}
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(g.ctx, resolveAtStartup)
			defer cancel()
			_, err := g.back.resolve(ctx, r.Target)
			if err == nil {
				r.mu.Lock()
				r.reachable = true
				r.mu.Unlock()
				return
			}
			mu.Lock()
			problems[r] = reason(err)
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
	for addr, s := range g.sockets {
		if s.dead.Load() || !slices.ContainsFunc(points, func(p point) bool { return p.addr == addr }) {
			g.closeSocket(s)
		}
	}
	var failed error
	for _, p := range points {
		if g.sockets[p.addr] != nil {
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

// open opens one socket and starts its loop.
func (g *group) open(addr netip.Addr) error {
	at := netip.AddrPortFrom(addr, g.key.Port)
	s := &socket{addr: addr, done: make(chan struct{})}
	var loop func() error
	if g.key.Protocol == rules.UDP {
		pc, err := g.front.listenPacket(at)
		if err != nil {
			return err
		}
		s.close = func() { _ = pc.close() }
		loop = func() error { return g.receive(pc) }
	} else {
		ln, err := g.front.listenStream(at)
		if err != nil {
			return err
		}
		s.close = func() { _ = ln.Close() }
		loop = func() error { return g.accept(ln) }
	}
	g.sockets[addr] = s
	g.serving.Go(func() {
		defer close(s.done)
		if err := loop(); err != nil {
			g.e.log.Warn("listener ended", logkey.Addr, at, logkey.Err, err)
			s.dead.Store(true)
			select {
			case g.died <- struct{}{}:
			default:
			}
		}
	})
	return nil
}
