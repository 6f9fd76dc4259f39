package duplex

import (
	"context"
	"net"
	"sync"
	"time"
)

// Mover copies many pairs of streams at a time, as Copy does with one. Where one
// of a pair is a host socket and the other a stream of a user-space stack that
// can be moved (see pieceStream), bytes go between the socket and the stack's own
// memory, and a pair that is quiet for some time holds neither a goroutine
// nor a buffer; other pairs are given to Copy. Today that is so on Linux only. A
// Mover starts nothing before it is used, and is made with NewMover.
type Mover struct {
	// QuietTime, half a second, is after how long, and at most twice that, a pair where nothing
	// moves gives its goroutine back; to wake it again costs some microseconds
	// more. It is set before the first Move.
	QuietTime time.Duration

	mu     sync.Mutex // guards closed
	closed bool
	moving sync.WaitGroup // pairs, and what Go was given

	crew crew
	sys  moverSys
}

// NewMover makes a Mover.
func NewMover() *Mover { return &Mover{QuietTime: 500 * time.Millisecond} }

// Move copies both ways between a and b as Copy does. It uses the caller's
// goroutine and returns when that is not needed any more: at the end, or before,
// when nothing moved for a while. done is called once, when both are closed, from
// any goroutine, perhaps before Move has returned; it should not block.
func (m *Mover) Move(ctx context.Context, a, b net.Conn, o Options, done func(Result)) {
	m.mu.Lock()
	closed := m.closed
	if !closed {
		m.moving.Add(1)
	}
	m.mu.Unlock()
	if closed {
		_ = a.Close()
		_ = b.Close()
		done(Result{End: Cut})
		return
	}
	if m.pump(ctx, a, b, o, done) {
		return
	}
	defer m.moving.Done()
	done(Copy(ctx, a, b, o))
}

// Close waits for the pairs that are being moved, and ends what is shared among
// them. Nothing can be moved afterwards. It is idempotent.
func (m *Mover) Close() {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.moving.Wait()
	m.end()
	m.crew.end()
}

// Go calls f in a goroutine that has served before, if one is free. f may call
// Move; Close waits for f. After Close it is not called.
func (m *Mover) Go(f func()) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.closed {
		m.moving.Add(1)
		m.crew.do(job{m, f})
	}
}

// job is a task that Go was given.
type job struct {
	m *Mover
	f func()
}

func (j job) run() {
	defer j.m.moving.Done()
	j.f()
}

// pieceStream is a stream of a user-space stack that can be moved without
// waiting. Its bytes are not copied on the way.
type pieceStream interface {
	net.Conn
	closeWriter

	// Notify makes ready be called, with locks held, when one of the other
	// methods may do more than before, and at once if there is something to read;
	// nil ends that.
	Notify(ready func(readable, writable bool))
	// TryRead reads what has arrived. It never waits: 0 and no error means nothing
	// now.
	TryRead(b []byte) (int, error)
	// ReadPieces offers up to most bytes of what has arrived to take, which
	// returns how many it took. The stream is locked meanwhile. It never waits.
	ReadPieces(most int, take func(pieces [][]byte) int) (int, error)
	// WriteFrom writes up to most bytes that fill puts in place. It does not wait
	// for room: 0 and no error means none now. A byte that fill gave is either
	// written, or an error is returned.
	WriteFrom(most int, fill func(b []byte) error) (int, error)
	// Broken tells, after ReadPieces has returned io.EOF, how the stream broke
	// since, and when it cannot any more.
	Broken() (over bool, err error)
}
