package duplex

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	// maxStep is how much one step moves at most: the stack is locked meanwhile
	// and handles no acknowledgement.
	maxStep = 256 << 10
	// moreLikely: after a step of so many bytes there is mostly more already, and
	// to look costs less than to be woken again.
	moreLikely = 16 << 10
)

// pump moves one pair: a host socket and a stream of the mesh. It has two flows,
// which run when there is something to do and are nowhere otherwise.
type pump struct {
	course
	m       *Mover
	forward bool // the host socket is the first of the pair
	host    hostStream
	raw     syscall.RawConn
	slot    slot
	mesh    pieceStream
	done    func(Result)

	up, down flow         // host to mesh, mesh to host
	left     atomic.Int32 // flows that are not over
	passed   atomic.Int32 // flows that have passed a FIN on
	halt     atomic.Bool  // flows stop where they are
	special  atomic.Bool  // the host socket has more to say than bytes: FIN, error, urgent data
	blocked  atomic.Bool  // down waits for the host socket to take more

	stopCtx func() bool
	graceMu sync.Mutex
	grace   *time.Timer
}

// States of a flow. Whoever changes idle to busy has to see that it runs.
const (
	idle  = iota
	busy  // runs, or will
	again // runs, and must once more
	over
)

// flow is one direction of a pump. Its fields belong to who runs it.
type flow struct {
	p      *pump
	step   func(*flow, *worker) (over bool)
	state  atomic.Uint32
	shared *atomic.Int64
	n      int64

	stuck    bool // src has bytes that dst does not take now
	lost     bool // bytes were read, or ready to be, that could not be written
	watching bool // src has finished; only how it ends is of interest
	armed    bool // down: the poller tells when the host socket takes more
}

// begin starts both flows in the caller's goroutine: what is there is moved at once.
func (p *pump) begin(ctx context.Context, o Options) {
	p.course.begin(o.IdleTimeout, p.cut)
	p.mesh.Notify(p.meshReady)
	p.stopCtx = context.AfterFunc(ctx, func() { p.cut(Cut) })
	w := workers.Get().(*worker)
	defer workers.Put(w)
	p.down.run(w)
	p.up.run(w)
}

// meshReady is called by the stack, hostReady by the poller.
func (p *pump) meshReady(readable, writable bool) {
	if readable {
		p.down.wake()
	}
	if writable {
		p.up.wake()
	}
}

func (p *pump) hostReady(readable, writable, special bool) {
	if special {
		p.special.Store(true)
	}
	if readable || special {
		p.up.wake()
	}
	if special || writable && p.blocked.Load() {
		p.down.wake()
	}
}

// wake makes the flow run, soon, and once more if it runs now.
func (f *flow) wake() {
	for {
		switch f.state.Load() {
		case idle:
			if f.state.CompareAndSwap(idle, busy) {
				f.p.m.dispatch(f)
				return
			}
		case busy:
			if f.state.CompareAndSwap(busy, again) {
				return
			}
		default:
			return
		}
	}
}

// run takes steps until there is nothing to do; the flow is busy.
func (f *flow) run(w *worker) {
	for {
		if f.step(f, w) {
			f.state.Store(over)
			if f.p.left.Add(-1) == 0 {
				f.p.complete()
			}
			return
		}
		if f.state.CompareAndSwap(busy, idle) {
			return
		}
		f.state.Store(busy)
	}
}

func (f *flow) count(n int) {
	if n <= 0 {
		return
	}
	f.n += int64(n)
	if f.shared != nil {
		f.shared.Add(int64(n))
	}
	f.p.touch()
}

// stepUp moves from the host socket to the mesh until one of them has enough.
func stepUp(f *flow, w *worker) bool {
	p := f.p
	for {
		switch {
		case p.halt.Load():
			f.lost = f.lost || f.stuck
			return true
		case f.watching:
			return p.sourceBroke(w.socketError(p.raw))
		}
		there := w.queued(p.raw)
		if there == 0 && !p.special.Load() {
			return false
		}
		if there == 0 {
			n, err := w.peek(p.raw)
			switch {
			case errors.Is(err, syscall.EAGAIN):
				return false
			case err != nil:
				return p.sourceEnded(f, p.mesh, err, w)
			}
			there = n
		}
		most := min(there, maxStep)
		w.raw = p.raw
		n, err := p.mesh.WriteFrom(most, w.fill)
		f.count(n)
		if err != nil {
			f.lost = true
			return p.writeFailed(&p.down, err)
		}
		if f.stuck = n < most; f.stuck {
			return false
		}
		if n < moreLikely && !p.special.Load() {
			return false
		}
	}
}

// stepDown moves from the mesh to the host socket.
func stepDown(f *flow, w *worker) bool {
	p := f.p
	for {
		switch {
		case p.halt.Load():
			f.lost = f.lost || f.stuck
			return true
		case f.watching:
			ended, err := p.mesh.Broken()
			return p.sourceBroke(err) || ended
		}
		f.stuck = false
		w.raw, w.err = p.raw, nil
		n, err := p.mesh.ReadPieces(maxStep, w.take)
		f.count(n)
		switch {
		case w.err == syscall.EAGAIN:
			f.stuck = true
			if !f.armed { // the poller will tell, at once if it takes more by now
				f.armed = true
				p.blocked.Store(true)
				if err := p.m.sys.poller.alsoWritable(p); err != nil {
					return p.sourceEnded(f, p.host, err, w)
				}
				return false
			}
			// Look again after having said that we wait: it may have changed between.
			if p.blocked.Swap(true) {
				return false
			}
			continue
		case w.err != nil:
			f.lost = true
			return p.writeFailed(&p.up, w.err)
		case err != nil:
			return p.sourceEnded(f, p.host, err, w)
		}
		p.blocked.Store(false)
		if n == 0 {
			return false
		}
	}
}

// sourceEnded passes the end of a stream on to the other.
func (p *pump) sourceEnded(f *flow, dst closeWriter, err error, w *worker) bool {
	if !errors.Is(err, io.EOF) {
		p.broken(err)
		return true
	}
	if p.settled() != 0 {
		return true // broken or cut: its close says more than a FIN
	}
	// An error means that dst is gone, which the opposite flow finds out.
	_ = dst.CloseWrite()
	if p.passed.Add(1) == 2 {
		p.stop() // the first flow watches its stream: nothing is left to see
		return true
	}
	f.watching = true
	return f.step(f, w)
}

// sourceBroke is called by a flow whose stream has finished: err says how it
// broke since. It reports whether the flow is over.
func (p *pump) sourceBroke(err error) bool {
	if err != nil {
		p.broken(err)
	}
	return p.settled() != 0
}

// writeFailed lets what the broken stream had sent before reach the other one,
// for a time, and then ends the copy. That is the business of opposite.
func (p *pump) writeFailed(opposite *flow, err error) bool {
	if p.settle(Reset, err) {
		p.graceMu.Lock()
		p.grace = time.AfterFunc(graceAfterReset, p.stop)
		p.graceMu.Unlock()
		opposite.wake()
	}
	return true
}

// broken is called once a stream turned out to be reset or dead.
func (p *pump) broken(err error) {
	if p.settle(Reset, err) {
		p.stop()
	}
}

func (p *pump) cut(end End) {
	if p.settle(end, nil) {
		p.stop()
	}
}

// stop makes both flows end where they are.
func (p *pump) stop() {
	p.halt.Store(true)
	p.up.wake()
	p.down.wake()
}

// complete runs once, after both flows.
func (p *pump) complete() {
	defer p.m.moving.Done()
	p.stopCtx()
	p.stopIdle()
	p.graceMu.Lock()
	if p.grace != nil {
		p.grace.Stop()
	}
	p.graceMu.Unlock()
	p.m.sys.poller.remove(p)
	p.mesh.Notify(nil)
	p.closeBoth(p.host, p.mesh, p.down.lost, p.up.lost)
	if p.forward {
		p.done(p.result(p.up.n, p.down.n))
	} else {
		p.done(p.result(p.down.n, p.up.n))
	}
}
