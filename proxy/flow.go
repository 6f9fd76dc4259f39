package proxy

import (
	"container/list"
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// What may wait for a flow's socket while the destination's name is resolved.
const (
	pendingPackets = 16
	pendingBytes   = 128 << 10
)

// flow is one sender's conversation with a destination. Its goroutine (run)
// connects and carries the replies; the listening socket's loop calls send.
type flow struct {
	table *flowTable
	key   flowKey
	rule  *rule
	elem  *list.Element // guarded by the table
	ctx   context.Context
	stop  context.CancelFunc

	last atomic.Int64 // monotonic nanoseconds of the last datagram, either way
	idle atomic.Int64 // nanoseconds

	mu      sync.Mutex // guards the fields below
	peer    peer       // nil until connected
	direct  bool       // nothing is pending any more: send writes itself
	pending [][]byte
	waiting int // bytes in pending
	timer   *time.Timer
	over    bool
}

var epoch = time.Now()

func newFlow(t *flowTable, key flowKey, r *rule) *flow {
	f := &flow{table: t, key: key, rule: r}
	life, _ := r.life()
	f.ctx, f.stop = context.WithCancel(life)
	f.idle.Store(int64(r.idleTimeout))
	f.touch()
	return f
}

func (f *flow) touch() { f.last.Store(int64(time.Since(epoch))) }

// run connects, sends what waited and carries replies until the flow ends.
func (f *flow) run() {
	r := f.rule
	defer r.e.working.Done()
	defer f.end()
	unhook := context.AfterFunc(f.ctx, f.end)
	defer unhook()
	if !f.watchIdle() {
		return
	}

	conn, err := r.dial(func(ctx context.Context) (net.Conn, error) {
		r.mu.Lock()
		skip := r.skip
		r.mu.Unlock()
		return f.table.g.back.dialPacket(ctx, r.Target, skip)
	})
	if err != nil {
		if f.ctx.Err() == nil {
			r.refused(refusedDial)
		}
		return
	}
	p := newPeer(conn)
	if !f.connected(p) {
		p.close()
		return
	}
	err = p.receive(f.reply)
	f.mu.Lock()
	over := f.over
	f.mu.Unlock()
	if !over {
		f.unreachable(err)
	}
}

// connected makes p the flow's socket and sends what waited for it, in order.
func (f *flow) connected(p peer) bool {
	f.mu.Lock()
	if f.over {
		f.mu.Unlock()
		return false
	}
	f.peer = p
	for len(f.pending) > 0 {
		batch := f.pending
		f.pending, f.waiting = nil, 0
		f.mu.Unlock()
		if !f.write(p, batch) {
			f.rule.stats.droppedIn.Add(int64(len(batch)))
			return false
		}
		f.mu.Lock()
	}
	f.direct = !f.over
	f.mu.Unlock()
	return true
}

// send passes datagrams of the client on; it may not keep them. It reports false
// when the flow is over and the first of them has not been sent.
func (f *flow) send(ps [][]byte) bool {
	f.touch()
	f.mu.Lock()
	if f.direct {
		p := f.peer
		f.mu.Unlock()
		return f.write(p, ps)
	}
	defer f.mu.Unlock()
	if f.over {
		return false
	}
	for _, b := range ps {
		if len(f.pending) >= pendingPackets || f.waiting+len(b) > pendingBytes {
			f.rule.stats.droppedIn.Add(1)
			continue
		}
		f.pending = append(f.pending, append([]byte{}, b...))
		f.waiting += len(b)
	}
	return true
}

// write sends datagrams to the destination. A refusal, which answers an earlier
// datagram, ends the flow and reports false if the first one was not sent; any
// other error costs one datagram only.
func (f *flow) write(p peer, ps [][]byte) bool {
	for first := true; len(ps) > 0; first = false {
		n, err := p.send(ps)
		f.rule.in.Add(sizeOf(ps[:n]))
		ps = ps[n:]
		if err == nil {
			return true
		}
		refused := errors.Is(err, syscall.ECONNREFUSED)
		if refused || errors.Is(err, net.ErrClosed) {
			if refused {
				f.unreachable(err)
				f.end()
			}
			if first && n == 0 {
				return false
			}
			f.rule.stats.droppedIn.Add(int64(len(ps)))
			return true
		}
		f.rule.stats.droppedIn.Add(1)
		ps = ps[1:]
	}
	return true
}

func sizeOf(ps [][]byte) int64 {
	n := 0
	for _, p := range ps {
		n += len(p)
	}
	return int64(n)
}

// reply passes datagrams of the destination back.
func (f *flow) reply(ps [][]byte) {
	f.touch()
	f.table.touch(f)
	f.rule.destinationWorks()
	for len(ps) > 0 {
		n, err := f.key.sock.write(ps, f.key.from, f.key.to)
		f.rule.out.Add(sizeOf(ps[:n]))
		if ps = ps[n:]; err != nil && len(ps) > 0 {
			f.rule.stats.droppedOut.Add(1)
			ps = ps[1:]
		}
	}
}

// unreachable records that the socket itself said the destination is not there.
func (f *flow) unreachable(err error) {
	f.rule.stats.unreachable.Add(1)
	f.rule.destinationFailed(dialError(f.rule.Target.String(), err))
}

// watchIdle starts the clock, unless the flow is over.
func (f *flow) watchIdle() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.over {
		f.timer = time.AfterFunc(time.Duration(f.idle.Load()), f.checkIdle)
	}
	return !f.over
}

// checkIdle fires when the flow may have been quiet for its time.
func (f *flow) checkIdle() {
	left := time.Duration(f.idle.Load()) - (time.Since(epoch) - time.Duration(f.last.Load()))
	if left <= 0 {
		f.rule.stats.idleEnds.Add(1)
		f.end()
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.over && f.timer != nil {
		f.timer.Reset(left)
	}
}

// hurry shortens the time the flow may be quiet: the engine ends.
func (f *flow) hurry() {
	f.idle.Store(min(f.idle.Load(), int64(drainQuiet)))
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.over && f.timer != nil {
		f.timer.Reset(0)
	}
}

// end closes the flow; its goroutine follows.
func (f *flow) end() {
	f.mu.Lock()
	if f.over {
		f.mu.Unlock()
		return
	}
	f.over = true
	f.direct = false
	f.rule.stats.droppedIn.Add(int64(len(f.pending)))
	f.pending = nil
	p, timer := f.peer, f.timer
	f.mu.Unlock()
	f.stop()
	if timer != nil {
		timer.Stop()
	}
	if p != nil {
		p.close()
	}
	f.table.forget(f)
}
