package duplex

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// graceAfterReset bounds the delivery of what a stream had sent before it broke.
const graceAfterReset = time.Second

// Options are the bounds and the counters of one Copy. The zero value is usable.
type Options struct {
	// IdleTimeout ends the copy when no byte moved in either direction for
	// this long. Zero: never.
	IdleTimeout time.Duration
	// AtoB and BtoA are increased with every write, while the copy runs. They
	// may be shared between copies and may be nil.
	AtoB, BtoA *atomic.Int64
}

// End is how a copy came to its end.
type End uint8

// The ends of a copy; the zero value is invalid.
const (
	Finished End = iota + 1 // FIN from both sides
	Reset                   // one side was reset or broke; Result.Err says how
	Idle                    // no byte for Options.IdleTimeout
	Cut                     // the context ended
)

func (e End) String() string {
	switch e {
	case Finished:
		return "finished"
	case Reset:
		return "reset"
	case Idle:
		return "idle"
	case Cut:
		return "cut"
	default:
		return "invalid"
	}
}

// Result says how a copy went.
type Result struct {
	AtoB, BtoA int64 // bytes written
	End        End
	Err        error // with Reset: the first error
}

// Copy copies both ways between a and b until both have finished, one breaks,
// nothing moved for the idle timeout or ctx ends. It owns a and b: both are
// closed and no goroutine is left when it returns.
func Copy(ctx context.Context, a, b net.Conn, o Options) Result {
	c := new(copier)
	c.ab = half{c: c, src: a, dst: b, shared: o.AtoB}
	c.ba = half{c: c, src: b, dst: a, shared: o.BtoA}
	c.begin(o.IdleTimeout, c.cut)

	stopCtx := context.AfterFunc(ctx, func() { c.cut(Cut) })
	var wg sync.WaitGroup
	wg.Add(2)
	go func() { defer wg.Done(); c.ab.run() }()
	go func() { defer wg.Done(); c.ba.run() }()
	wg.Wait()
	stopCtx()
	c.stopIdle()
	c.closeBoth(outcome{a, c.ab.finished, c.ba.lost}, outcome{b, c.ba.finished, c.ab.lost})
	return c.result(c.ab.n, c.ba.n)
}

// copier is one running Copy.
type copier struct {
	course
	ab, ba half
	ends   atomic.Int32 // directions that have passed a FIN on
}

// past is a deadline that makes blocked calls return now.
var past = time.Unix(1, 0)

// cut makes both directions stop where they are.
func (c *copier) cut(end End) {
	if c.settle(end, nil) {
		c.interrupt()
	}
}

func (c *copier) interrupt() {
	_ = c.ab.src.SetDeadline(past)
	_ = c.ba.src.SetDeadline(past)
}

// broken is called once a stream turned out to be reset or dead.
func (c *copier) broken(err error) {
	if c.settle(Reset, err) {
		c.interrupt()
	}
}

// half is one direction of a copy; its fields belong to its goroutine until
// that has ended.
type half struct {
	c        *copier
	src, dst net.Conn
	shared   *atomic.Int64
	n        int64
	finished bool // src has sent its FIN
	lost     bool // bytes were read that could not be written

	// srcClosed is set by the opposite direction when it had to close src whole.
	srcClosed atomic.Bool
}

func (h *half) opposite() *half {
	if h == &h.c.ab {
		return &h.c.ba
	}
	return &h.c.ab
}

func (h *half) count(n int) {
	if n <= 0 {
		return
	}
	h.n += int64(n)
	if h.shared != nil {
		h.shared.Add(int64(n))
	}
	h.c.touch()
}

// run copies until src ends or either stream breaks.
func (h *half) run() {
	buf := newBuffer()
	defer buf.release()
	for {
		p := buf.space()
		n, rerr := h.src.Read(p)
		if n > 0 {
			h.c.touch()
			w, werr := h.dst.Write(p[:n])
			h.count(w)
			if werr == nil && w < n {
				werr = io.ErrShortWrite
			}
			if werr != nil {
				h.lost = true
				h.writeFailed(werr)
				return
			}
		}
		if rerr != nil {
			h.readEnded(rerr)
			return
		}
		buf.adapt(n)
		if n == len(p) {
			if err := h.splice(); err != nil {
				h.lost = true
				h.writeFailed(err)
				return
			}
		}
	}
}

// readEnded passes the end of src on.
func (h *half) readEnded(err error) {
	if !errors.Is(err, io.EOF) && !h.srcClosed.Load() {
		h.c.broken(err) // without effect when the copy was cut
		return
	}
	h.finished = true
	if h.c.settled() != 0 {
		return // broken or cut: its close says more than a FIN
	}
	h.finish()
	if h.c.ends.Add(1) == 2 {
		// The first direction may be watching its stream: nothing is left to see.
		_ = h.src.SetReadDeadline(past)
		_ = h.dst.SetReadDeadline(past)
		return
	}
	if err := watchReset(h.src); err != nil {
		h.c.broken(err)
	}
}

// finish sends the FIN to dst. An error means that dst is gone, which the
// opposite direction finds out and reports.
func (h *half) finish() {
	if w, ok := h.dst.(closeWriter); ok {
		_ = w.CloseWrite()
		return
	}
	h.opposite().srcClosed.Store(true)
	_ = h.dst.Close()
}

// writeFailed lets what dst had sent before it broke reach src, then ends the copy.
func (h *half) writeFailed(err error) {
	if h.c.settled() != 0 {
		return
	}
	// dst is broken: its reads end at once with what is left in its queue. The
	// opposite direction sees that end; the deadline is for streams that do not.
	until := time.Now().Add(graceAfterReset)
	_ = h.dst.SetReadDeadline(until)
	_ = h.src.SetWriteDeadline(until)
	h.c.settle(Reset, err)
}
