package duplextest

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"nexd/internal/duplex"
)

// patience bounds every wait of the suite. It only has to be less than for ever:
// a user-space stack under the race detector on a busy machine is slow.
const patience = 2 * time.Minute

// Copier is the loop under test; it has the contract of duplex.Copy.
type Copier func(ctx context.Context, a, b net.Conn, o duplex.Options) duplex.Result

// Run runs the suite for copies from a stream made by left to one made by
// right, and the other way round.
func Run(t *testing.T, loop Copier, left, right Pair) {
	t.Helper()
	type story struct {
		name string
		run  func(*testing.T, *rig)
	}
	run := func(t *testing.T, c story, near, far Pair) {
		c.run(t, &rig{t: t, loop: loop, left: near, right: far})
	}
	for _, c := range []story{
		{"BothWays", bothWays},
		{"BigBothWaysAtOnce", big},
		{"ClientFinishesFirst", clientFirst},
		{"ServerFinishesFirst", serverFirst},
		{"FinishAtOnce", finishAtOnce},
		{"ResetByClient", resetByClient},
		{"ResetByServer", resetByServer},
		{"ResetAfterOwnFin", resetAfterFin},
		{"LastWordsBeforeReset", lastWords},
		{"Idle", idle},
		{"BytesPutIdleOff", notIdle},
		{"LiveCounters", live},
		{"CutStreamIsNotWhole", cutBusy},
		{"CutWhileBytesMoveResets", cutMoving},
	} {
		t.Run(c.name, func(t *testing.T) { run(t, c, left, right) })
		t.Run(c.name+"Mirrored", func(t *testing.T) { run(t, c, right, left) })
	}
	t.Run("AtRest", func(t *testing.T) { // which takes a while
		atRest := func(c story, near, far Pair) {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				run(t, c, near, far)
			})
		}
		atRest(story{"CutSendsFin", cutQuiet}, left, right)
		atRest(story{"CutAfterFinResetsTheOther", cutHalf}, left, right)
		atRest(story{"CutAfterFinResetsTheOtherMirrored", cutHalf}, right, left)
	})
}

// rig is client — loop — server.
type rig struct {
	t              *testing.T
	loop           Copier
	left, right    Pair
	client, server net.Conn
	cancel         context.CancelFunc
	done           chan struct{}
	result         duplex.Result
	a, b           net.Conn // the loop's ends
	ab, ba         atomic.Int64
}

// start runs the loop; half and reset say what both kinds of stream must be able to do.
func (r *rig) start(idle time.Duration, half, reset bool) {
	r.t.Helper()
	r.client, r.a = r.left(r.t)
	r.b, r.server = r.right(r.t)
	if half && !(canHalfClose(r.a) && canHalfClose(r.b)) {
		r.stop()
		r.t.Skip("these streams cannot half-close")
	}
	if reset && !(canReset(r.a) && canReset(r.b)) {
		r.stop()
		r.t.Skip("these streams cannot reset")
	}
	limit := time.Now().Add(patience)
	_ = r.client.SetDeadline(limit)
	_ = r.server.SetDeadline(limit)
	var ctx context.Context
	ctx, r.cancel = context.WithCancel(context.Background())
	r.done = make(chan struct{})
	go func() {
		defer close(r.done)
		r.result = r.loop(ctx, r.a, r.b, duplex.Options{IdleTimeout: idle, AtoB: &r.ab, BtoA: &r.ba})
	}()
	r.t.Cleanup(func() {
		r.cancel()
		r.stop()
		<-r.done
	})
}

func (r *rig) stop() {
	for _, c := range []net.Conn{r.client, r.server, r.a, r.b} {
		_ = c.Close()
	}
}

// ends waits for the loop to return and checks how it ended.
func (r *rig) ends(want duplex.End) {
	r.t.Helper()
	select {
	case <-r.done:
	case <-time.After(patience):
		r.t.Fatalf("the loop still runs; want it %v", want)
	}
	if r.result.End != want {
		r.t.Fatalf("ended %v (%v), want %v", r.result.End, r.result.Err, want)
	}
	if r.result.AtoB != r.ab.Load() || r.result.BtoA != r.ba.Load() {
		r.t.Errorf("result %+v, counters %d and %d", r.result, r.ab.Load(), r.ba.Load())
	}
	if _, err := r.a.Write([]byte{0}); err == nil {
		r.t.Error("first stream is still open")
	}
	if _, err := r.b.Write([]byte{0}); err == nil {
		r.t.Error("second stream is still open")
	}
}

func (r *rig) send(c net.Conn, text string) {
	r.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		r.t.Fatalf("write: %v", err)
	}
}

func (r *rig) expect(c net.Conn, text string) {
	r.t.Helper()
	got := make([]byte, len(text))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != text {
		r.t.Fatalf("read %q, %v; want %q", got[:n], err, text)
	}
}

func (r *rig) expectEOF(c net.Conn) {
	r.t.Helper()
	if rest, err := io.ReadAll(c); err != nil || len(rest) > 0 {
		r.t.Fatalf("read %d bytes, %v; want the end of the stream", len(rest), err)
	}
}

func (r *rig) expectReset(c net.Conn) {
	r.t.Helper()
	if _, err := io.Copy(io.Discard, c); !errors.Is(err, syscall.ECONNRESET) {
		r.t.Fatalf("read: %v; want a reset", err)
	}
}

func (r *rig) closeWrite(c net.Conn) {
	r.t.Helper()
	if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		r.t.Fatalf("close write: %v", err)
	}
}

func bothWays(t *testing.T, r *rig) {
	r.start(0, false, false)
	r.send(r.client, "question")
	r.expect(r.server, "question")
	r.send(r.server, "answer")
	r.expect(r.client, "answer")
	_ = r.client.Close()
	r.expectEOF(r.server)
	_ = r.server.Close()
	r.ends(duplex.Finished)
	if r.result.AtoB != 8 || r.result.BtoA != 6 {
		t.Errorf("counted %d and %d bytes, want 8 and 6", r.result.AtoB, r.result.BtoA)
	}
}

func big(t *testing.T, r *rig) {
	r.start(0, true, false)
	const size = 4 << 20
	type sum = [sha256.Size]byte
	send := func(c net.Conn, seed uint64) <-chan sum {
		out := make(chan sum, 1)
		go func() {
			h := sha256.New()
			src := io.LimitReader(rand.NewChaCha8([32]byte{byte(seed)}), size)
			if _, err := io.Copy(io.MultiWriter(h, onlyWriter{c}), src); err != nil {
				t.Errorf("write: %v", err)
			}
			r.closeWrite(c)
			out <- sum(h.Sum(nil))
		}()
		return out
	}
	receive := func(c net.Conn) <-chan sum {
		out := make(chan sum, 1)
		go func() {
			h := sha256.New()
			if n, err := io.Copy(h, onlyReader{c}); err != nil || n != size {
				t.Errorf("read %d bytes, %v; want %d", n, err, size)
			}
			out <- sum(h.Sum(nil))
		}()
		return out
	}
	there, back := send(r.client, 1), send(r.server, 2)
	gotThere, gotBack := receive(r.server), receive(r.client)
	if <-there != <-gotThere || <-back != <-gotBack {
		t.Error("bytes changed on the way")
	}
	r.ends(duplex.Finished)
}

// onlyReader and onlyWriter hide what lets io.Copy take a shorter way.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// clientFirst is `nc -N`: the client sends all it has and its FIN, the answer comes after.
func clientFirst(_ *testing.T, r *rig) {
	r.start(0, true, false)
	r.send(r.client, "all I have to say")
	r.closeWrite(r.client)
	r.expect(r.server, "all I have to say")
	r.expectEOF(r.server)
	r.send(r.server, "the answer, ")
	r.expect(r.client, "the answer, ")
	r.send(r.server, "in two parts")
	r.closeWrite(r.server)
	r.expect(r.client, "in two parts")
	r.expectEOF(r.client)
	r.ends(duplex.Finished)
}

func serverFirst(_ *testing.T, r *rig) {
	r.start(0, true, false)
	r.send(r.server, "banner")
	r.closeWrite(r.server)
	r.expect(r.client, "banner")
	r.expectEOF(r.client)
	r.send(r.client, "upload")
	r.closeWrite(r.client)
	r.expect(r.server, "upload")
	r.expectEOF(r.server)
	r.ends(duplex.Finished)
}

func finishAtOnce(_ *testing.T, r *rig) {
	r.start(0, true, false)
	r.closeWrite(r.client)
	r.closeWrite(r.server)
	r.expectEOF(r.client)
	r.expectEOF(r.server)
	r.ends(duplex.Finished)
}

func resetByClient(_ *testing.T, r *rig) {
	r.start(0, false, true)
	r.send(r.client, "x")
	r.expect(r.server, "x")
	duplex.Abort(r.client)
	r.expectReset(r.server)
	r.ends(duplex.Reset)
}

func resetByServer(_ *testing.T, r *rig) {
	r.start(0, false, true)
	r.send(r.client, "x")
	r.expect(r.server, "x")
	duplex.Abort(r.server)
	r.expectReset(r.client)
	r.ends(duplex.Reset)
}

// resetAfterFin is a client that sent its FIN and then died. A quiet server
// hears of it at once from streams that can tell, with its next bytes from all
// others.
func resetAfterFin(_ *testing.T, r *rig) {
	r.start(0, true, true)
	r.closeWrite(r.client)
	r.expectEOF(r.server)
	duplex.Abort(r.client)
	if !tellsReset(r.a) {
		go func() {
			for {
				if _, err := r.server.Write(make([]byte, 1024)); err != nil {
					return
				}
				select {
				case <-r.done:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		}()
	}
	r.ends(duplex.Reset)
}

// lastWords: the server answers without reading the upload, and closes, which
// resets the connection. The answer still arrives.
func lastWords(_ *testing.T, r *rig) {
	r.start(0, true, true)
	r.send(r.client, "upload the server never reads")
	r.send(r.server, "413 too large")
	r.expect(r.client, "413 too large")
	_ = r.server.Close()
	go func() {
		for {
			if _, err := r.client.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}()
	r.ends(duplex.Reset)
}

func idle(_ *testing.T, r *rig) {
	r.inTime(400*time.Millisecond, r.fallsIdle)
	r.expectEOF(r.client)
	r.expectEOF(r.server)
	r.ends(duplex.Idle)
}

// fallsIdle starts a loop with an idle time and sends one byte. It reports false
// when that took so long that the loop may have taken its streams for idle before.
func (r *rig) fallsIdle(idle time.Duration) bool {
	r.t.Helper()
	began := time.Now()
	r.start(idle, false, false)
	_, err := io.WriteString(r.client, "x")
	if err == nil {
		_, err = io.ReadFull(r.server, make([]byte, 1))
	}
	if time.Since(began) > idle/2 {
		return false
	}
	if err != nil {
		r.t.Fatalf("cut before the idle time was over: %v", err)
	}
	return true
}

// notIdle sends at a fraction of the idle time.
func notIdle(t *testing.T, r *rig) {
	r.inTime(300*time.Millisecond, r.keepsBusy)
	r.ends(duplex.Idle)
	if r.result.BtoA < 4 {
		t.Errorf("only %d bytes before it was taken for idle", r.result.BtoA)
	}
}

// inTime tries something with an idle time. A machine that stops for longer than
// that proves nothing, so such a try is made again, with more time.
func (r *rig) inTime(limit time.Duration, try func(idle time.Duration) bool) {
	r.t.Helper()
	for !try(limit) {
		if limit *= 2; limit > patience/8 {
			r.t.Fatal("the machine is too slow to tell")
		}
		r.cancel()
		r.stop()
		<-r.done
		r.ab.Store(0)
		r.ba.Store(0)
	}
}

// keepsBusy starts a loop with an idle time and sends bytes for three times as
// long. It reports false when it could not send often enough; when it could,
// every byte must have come through.
func (r *rig) keepsBusy(idle time.Duration) bool {
	r.t.Helper()
	r.start(idle, false, false)
	tick := time.NewTicker(idle / 6)
	defer tick.Stop()
	began := time.Now()
	for last := began; time.Since(began) < 3*idle; {
		<-tick.C
		_, err := io.WriteString(r.server, "x") // one direction is enough
		if err == nil {
			_, err = io.ReadFull(r.client, make([]byte, 1))
		}
		now := time.Now()
		if now.Sub(last) > idle/2 {
			return false
		}
		if last = now; err != nil {
			r.t.Fatalf("cut after %v, although bytes moved every %v: %v", now.Sub(began), idle/6, err)
		}
	}
	return true
}

func live(t *testing.T, r *rig) {
	r.start(0, false, false)
	for i := 1; i <= 3; i++ {
		r.send(r.client, "12345")
		r.expect(r.server, "12345")
		// The reader may be ahead of the count by a moment, not by more.
		for until := time.Now().Add(patience); r.ab.Load() != int64(5*i); {
			if time.Now().After(until) {
				t.Fatalf("counted %d bytes while running, want %d", r.ab.Load(), 5*i)
			}
			time.Sleep(time.Millisecond)
		}
	}
}
