//go:build linux

package paths

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Bulk is a connection through the mesh over which data streams and comes back,
// some 10 MB a second, until Close.
type Bulk struct {
	conn net.Conn
	wg   sync.WaitGroup
	done chan struct{}

	mu    sync.Mutex
	came  int64 // bytes that came back; mu guards it and the fields below
	last  time.Time
	pause time.Duration // the longest between two of them
	err   error         // why it ended
}

// bulkBlock is written each bulkEvery.
const (
	bulkBlock = 64 << 10
	bulkEvery = 6 * time.Millisecond
)

// NewBulk connects through a local port of a member that leads to what [Serve]
// answers.
func NewBulk(m *Member, port int) (*Bulk, error) {
	c, err := dial(m.At.Host, "tcp", port)
	if err != nil {
		return nil, err
	}
	b := &Bulk{conn: c, done: make(chan struct{}), last: time.Now()}
	b.wg.Go(b.write)
	b.wg.Go(b.read)
	return b, nil
}

// Close ends it and waits for it. An error says that other bytes came back than
// were sent, or that it ended by itself.
func (b *Bulk) Close() error {
	b.mu.Lock()
	err := b.err
	b.mu.Unlock()
	select {
	case <-b.done:
	default:
		close(b.done)
	}
	b.conn.Close()
	b.wg.Wait()
	return err
}

// Pause returns the longest time in which nothing came back since the last call,
// the present one included, and how many bytes have come in all.
func (b *Bulk) Pause() (longest time.Duration, bytes int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	longest = max(b.pause, time.Since(b.last))
	b.pause = 0
	return longest, b.came
}

// Flows waits until so many more bytes came back; an error after limit.
func (b *Bulk) Flows(bytes int64, limit time.Duration) error {
	b.mu.Lock()
	before := b.came
	b.mu.Unlock()
	return Until(limit, func() error {
		b.mu.Lock()
		defer b.mu.Unlock()
		if b.came-before < bytes && b.err == nil {
			return fmt.Errorf("%d bytes came back, want %d", b.came-before, bytes)
		}
		return b.err
	})
}

func (b *Bulk) write() {
	block := make([]byte, bulkBlock)
	tick := time.NewTicker(bulkEvery)
	defer tick.Stop()
	for n := uint64(0); ; {
		for at := 0; at < len(block); at += 8 {
			binary.BigEndian.PutUint64(block[at:], n)
			n++
		}
		if _, err := b.conn.Write(block); err != nil {
			b.end(err)
			return
		}
		select {
		case <-b.done:
			return
		case <-tick.C:
		}
	}
}

func (b *Bulk) read() {
	block := make([]byte, bulkBlock)
	next := uint64(0)
	for held := 0; ; {
		n, err := b.conn.Read(block[held:])
		if err != nil {
			b.end(err)
			return
		}
		n += held
		at := 0
		for ; n-at >= 8; at += 8 {
			if got := binary.BigEndian.Uint64(block[at:]); got != next {
				b.end(fmt.Errorf("word %d came where %d was due", got, next))
				return
			}
			next++
		}
		held = copy(block, block[at:n])
		now := time.Now()
		b.mu.Lock()
		b.pause = max(b.pause, now.Sub(b.last))
		b.last, b.came = now, int64(8*next)
		b.mu.Unlock()
	}
}

func (b *Bulk) end(err error) {
	select {
	case <-b.done:
		return // it was closed
	default:
	}
	if errors.Is(err, io.EOF) {
		err = errors.New("it was closed by the other side")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}
