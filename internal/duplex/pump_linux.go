package duplex

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// pump moves one pair: a host socket and a stream of the mesh. It has two flows,
// which run when there is something to do:
//
//	up    host to mesh. Its goroutine waits in the runtime's poller for the socket;
//	      after the QuietTime it ends, and the Mover's poller waits instead. It ends
//	      also when the mesh stream is full, until that has room.
//	down  mesh to host. It is run when the mesh stream has something to read; its
//	      goroutine waits only for a socket that takes no more.
type pump struct {
	course
	m       *Mover
	forward bool // the host socket is the first of the pair
	host    hostStream
	raw     syscall.RawConn
	mesh    pieceStream
	done    func(Result)

	up, down flow         // host to mesh, mesh to host
	left     atomic.Int32 // flows that are not over
	passed   atomic.Int32 // flows that have passed a FIN on
	halt     atomic.Bool  // flows stop where they are
	moved    atomic.Bool  // since the Mover looked last
	tired    atomic.Bool  // up is to end its goroutine
	place    int          // among those awake; guarded by the Mover
	asleep   bool         // belongs to up: slot is used
	slot     slot

	stopCtx func() bool
	graceMu sync.Mutex
	grace   *time.Timer
}

// flow is one direction of a pump. Its fields belong to who runs it.
type flow struct {
	errand
	p      *pump
	shared *atomic.Int64
	n      int64

	try      func(fd uintptr) bool // one step, within a call of RawConn; true: enough
	ended    bool                  // try has found that the flow is over
	stuck    bool                  // src has bytes that dst does not take now
	finished bool                  // src has sent its FIN
	lost     bool                  // bytes were read, or ready to be, that could not be written
	watching bool                  // src has finished; only how it ends is of interest
	bulk     bool                  // the last read was a full one
	pending  []byte                // read, and not written yet
}

// begin runs up in the caller's goroutine.
func (p *pump) begin(ctx context.Context, o Options) {
	p.up.try, p.down.try = p.upTry, p.downTry
	p.up.step, p.down.step = p.stepUp, p.stepDown
	p.left.Store(2)
	p.up.state.Store(busy)
	p.course.begin(o.IdleTimeout, p.cut)
	p.m.rouse(p)
	p.stopCtx = context.AfterFunc(ctx, func() { p.cut(Cut) })
	p.mesh.Notify(p.meshReady)
	p.up.run()
}

// meshReady is called by the stack.
func (p *pump) meshReady(readable, writable bool) {
	if readable {
		p.down.wake()
	}
	if writable {
		p.up.wake()
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
	if p := f.p; !p.moved.Load() {
		p.moved.Store(true)
	}
	f.p.touch()
}

// halted reports whether the flow is to stop where it is.
func (f *flow) halted() bool {
	if !f.p.halt.Load() {
		return false
	}
	f.lost = f.lost || f.stuck
	return true
}

// stepUp moves from the host socket to the mesh, and waits for the socket, until
// the mesh has enough or the pump is tired.
func (p *pump) stepUp() bool {
	f := &p.up
	if p.asleep {
		p.asleep = false
		p.m.sys.poller.remove(p.raw, p.slot)
		p.m.rouse(p)
	}
	if f.halted() {
		return f.finish()
	}
	err := p.raw.Read(f.try)
	switch {
	case err == nil:
		return f.ended && f.finish()
	case f.halted():
		return f.finish()
	case errors.Is(err, os.ErrDeadlineExceeded) && p.tired.Swap(false):
		_ = p.host.SetReadDeadline(time.Time{})
		if f.halted() { // perhaps by the deadline that was just removed
			return f.finish()
		}
		if f.stuck { // what it has is to be tried again, whatever the socket does
			p.m.rouse(p)
			f.wake()
			return false
		}
		p.sleep()
		return false
	}
	return p.sourceEnded(f, p.mesh, err) && f.finish()
}

// stepDown moves from the mesh to the host socket until there is nothing more.
func (p *pump) stepDown() bool {
	f := &p.down
	switch {
	case f.halted():
		return f.finish()
	case f.watching:
		ended, err := p.mesh.Broken()
		return (p.sourceBroke(err) || ended) && f.finish()
	}
	if err := p.raw.Write(f.try); err != nil {
		if !f.halted() {
			p.broken(err)
		}
		return f.finish()
	}
	return f.ended && f.finish()
}

// finish ends a flow, and the pump with the second one. It returns true.
func (f *flow) finish() bool {
	f.pending = nil
	if f.p.left.Add(-1) == 0 {
		f.p.complete()
	}
	return true
}

// tire makes up end its goroutine if nothing has moved.
func (p *pump) tire() {
	p.tired.Store(true)
	_ = p.host.SetReadDeadline(past)
}

// sleep leaves the waiting for the host socket to the Mover.
func (p *pump) sleep() {
	poller, err := p.m.polling()
	if err == nil {
		events := uint32(pollRead)
		if p.up.watching {
			events = pollErrors
		}
		p.slot, err = poller.add(p.raw, &p.up.errand, events)
	}
	if err != nil { // descriptors or memory are short: go on as before
		p.m.rouse(p)
		p.up.wake()
		return
	}
	p.asleep = true
}

// sourceEnded passes the end of a stream on to the other. It reports whether the
// flow is over.
func (p *pump) sourceEnded(f *flow, dst closeWriter, err error) bool {
	if !errors.Is(err, io.EOF) {
		p.broken(err)
		return true
	}
	f.finished = true
	if p.settled() != 0 {
		return true // broken or cut: its close says more than a FIN
	}
	if p.passed.Add(1) == 2 {
		// The end of the pump says FIN to dst. The first flow watches its stream:
		// nothing is left to see.
		p.stop()
		return true
	}
	// An error means that dst is gone, which the opposite flow finds out.
	_ = dst.CloseWrite()
	f.watching = true
	f.wake() // look at once how it is
	return false
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
func (p *pump) writeFailed(f, opposite *flow, err error) {
	f.lost = true
	if p.settle(Reset, err) {
		p.graceMu.Lock()
		p.grace = time.AfterFunc(graceAfterReset, p.stop)
		p.graceMu.Unlock()
		opposite.wake()
	}
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
	_ = p.host.SetDeadline(past)
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
	p.m.forget(p)
	p.mesh.Notify(nil)
	p.closeBoth(outcome{p.host, p.up.finished, p.down.lost}, outcome{p.mesh, p.down.finished, p.up.lost})
	if p.forward {
		p.done(p.result(p.up.n, p.down.n))
	} else {
		p.done(p.result(p.down.n, p.up.n))
	}
}
