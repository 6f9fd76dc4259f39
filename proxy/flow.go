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
	conn    net.Conn   // nil until connected
	direct  bool       // nothing is pending any more: send writes itself
	pending [][]byte
	waiting int // bytes in pending
	timer   *time.Timer
	over    bool
}

var epoch = time.Now()

func newFlow(t *flowTable, key flowKey, r *rule) *flow {
	f := &flow{table: t, key: key, rule: r}
	f.ctx, f.stop = context.WithCancel(r.ctx)
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
	f.mu.Lock()
	f.timer = time.AfterFunc(time.Duration(f.idle.Load()), f.checkIdle)
	f.mu.Unlock()

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
	if !f.connected(conn) {
		_ = conn.Close()
		return
	}
	err = readPackets(conn, f.reply)
	f.mu.Lock()
	over := f.over
	f.mu.Unlock()
	if !over {
		f.unreachable(err)
	}
}

// connected makes conn the flow's socket and sends what waited for it, in order.
func (f *flow) connected(conn net.Conn) bool {
	f.mu.Lock()
	if f.over {
		f.mu.Unlock()
		return false
	}
	f.conn = conn
	for len(f.pending) > 0 {
		batch := f.pending
		f.pending, f.waiting = nil, 0
		f.mu.Unlock()
		for _, p := range batch {
			if !f.write(conn, p) {
				return false
			}
		}
		f.mu.Lock()
	}
	f.direct = !f.over
	f.mu.Unlock()
	return true
}

// send passes a datagram of the client on; it may not keep p. It reports false
// when the flow is over and the datagram has not been sent.
func (f *flow) send(p []byte) bool {
	f.touch()
	f.mu.Lock()
	if f.direct {
		conn := f.conn
		f.mu.Unlock()
		return f.write(conn, p)
	}
	defer f.mu.Unlock()
	if f.over {
		return false
	}
	if len(f.pending) >= pendingPackets || f.waiting+len(p) > pendingBytes {
		f.rule.stats.droppedIn.Add(1)
		return true
	}
	f.pending = append(f.pending, append([]byte{}, p...))
	f.waiting += len(p)
	return true
}

// write sends one datagram to the destination. A refusal, which answers an
// earlier datagram, ends the flow and reports false; any other error costs this
// datagram only.
func (f *flow) write(conn net.Conn, p []byte) bool {
	n, err := conn.Write(p)
	switch {
	case err == nil:
		f.rule.in.Add(int64(n))
		return true
	case errors.Is(err, syscall.ECONNREFUSED):
		f.unreachable(err)
		f.end()
		return false
	case errors.Is(err, net.ErrClosed):
		return false
	}
	f.rule.stats.droppedIn.Add(1)
	return true
}

// reply passes a datagram of the destination back.
func (f *flow) reply(p []byte) {
	f.touch()
	f.table.touch(f)
	f.rule.destinationWorks()
	if err := f.key.sock.write(p, f.key.from, f.key.to); err != nil {
		f.rule.stats.droppedOut.Add(1)
		return
	}
	f.rule.out.Add(int64(len(p)))
}

// unreachable records that the socket itself said the destination is not there.
func (f *flow) unreachable(err error) {
	f.rule.stats.unreachable.Add(1)
	f.rule.destinationFailed(dialError(f.rule.Target.String(), err))
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
	f.pending = nil
	conn, timer := f.conn, f.timer
	f.mu.Unlock()
	f.stop()
	if timer != nil {
		timer.Stop()
	}
	if conn != nil {
		_ = conn.Close()
	}
	f.table.forget(f)
}
