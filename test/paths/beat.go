//go:build linux

package paths

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// BeatEvery is the time between two beats.
const BeatEvery = 20 * time.Millisecond

// calm is the longest silence of a connection that flows: twenty beats, more
// than a busy machine makes of them and less than a retransmission's second try.
const calm = 400 * time.Millisecond

// Beat is a connection through the mesh that says its count each BeatEvery and
// is answered.
type Beat struct {
	conn net.Conn
	wg   sync.WaitGroup
	done chan struct{}

	mu       sync.Mutex
	sent     []time.Time // of each beat; mu guards it and the fields below
	arrived  []time.Time // of each answer, or several at once
	answered int         // beats up to here
	err      error       // why the connection ended
}

// NewBeat connects through a local port of a member; network is tcp or udp. It
// beats until Close.
func NewBeat(m *Member, network string, port int) (*Beat, error) {
	c, err := dial(m.At.Host, network, port)
	if err != nil {
		return nil, err
	}
	b := &Beat{conn: c, done: make(chan struct{})}
	b.wg.Go(b.speak)
	b.wg.Go(b.hear)
	return b, nil
}

// Close ends the connection and waits for it.
func (b *Beat) Close() {
	close(b.done)
	b.conn.Close()
	b.wg.Wait()
}

func (b *Beat) speak() {
	tick := time.NewTicker(BeatEvery)
	defer tick.Stop()
	for n := uint64(0); ; n++ {
		select {
		case <-b.done:
			return
		case <-tick.C:
		}
		b.mu.Lock()
		b.sent = append(b.sent, time.Now())
		b.mu.Unlock()
		if _, err := b.conn.Write(binary.BigEndian.AppendUint64(nil, n)); err != nil {
			b.end(err)
			return
		}
	}
}

// hear reads the answers: of TCP all in order, of UDP those that come.
func (b *Beat) hear() {
	_, stream := b.conn.(*net.TCPConn)
	buf := make([]byte, 1<<16)
	held := 0 // bytes of a beat that is not whole
	next := uint64(0)
	for {
		n, err := b.conn.Read(buf[held:])
		now := time.Now()
		if err != nil {
			b.end(err)
			return
		}
		n += held
		last := next
		at := 0
		for ; n-at >= 8; at += 8 {
			got := binary.BigEndian.Uint64(buf[at:])
			if stream && got != next {
				b.end(fmt.Errorf("beat %d came where %d was due", got, next))
				return
			}
			next = max(next, got+1)
		}
		held = copy(buf, buf[at:n])
		if next == last {
			continue
		}
		b.mu.Lock()
		b.arrived = append(b.arrived, now)
		b.answered = int(next)
		b.mu.Unlock()
	}
}

func (b *Beat) end(err error) {
	if err == io.EOF {
		err = fmt.Errorf("it was closed by the other side")
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}

// Err is why the connection ended; nil while it lives.
func (b *Beat) Err() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

// Silence is the longest time without an answer that ended after since, the
// present one included.
func (b *Beat) Silence(since time.Time) time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	longest, last := time.Duration(0), time.Now()
	for i := len(b.arrived) - 1; i >= 0 && last.After(since); i-- {
		longest = max(longest, last.Sub(b.arrived[i]))
		last = b.arrived[i]
	}
	return longest
}

// Lost is the share of the beats sent in a time that were not answered, of
// datagrams; those of the last second do not count.
func (b *Beat) Lost(since time.Time) float64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	sent, until := 0, time.Now().Add(-time.Second)
	for _, t := range b.sent {
		if t.After(since) && t.Before(until) {
			sent++
		}
	}
	came := 0
	for _, t := range b.arrived {
		if t.After(since) && t.Before(until) {
			came++
		}
	}
	if sent == 0 {
		return 0
	}
	return max(0, 1-float64(came)/float64(sent))
}

// heard reports whether a beat sent after since was answered.
func (b *Beat) heard(since time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.answered > 0 && b.answered <= len(b.sent) && b.sent[b.answered-1].After(since)
}

// Settle waits until the connection flows again after something happened: a
// beat sent since was answered, and for quiet there was no longer silence than
// a busy machine makes. It returns the longest silence since; an error when the
// connection ended, or does not flow within limit.
func (b *Beat) Settle(since time.Time, quiet, limit time.Duration) (time.Duration, error) {
	err := Until(limit, func() error {
		if err := b.Err(); err != nil {
			return nil // said below
		}
		switch now := time.Now(); {
		case !b.heard(since):
			return fmt.Errorf("nothing sent since is answered")
		case now.Sub(since) < quiet:
			return fmt.Errorf("it is too early to tell")
		case b.Silence(now.Add(-quiet)) > calm:
			return fmt.Errorf("it falters: a silence of %s", b.Silence(now.Add(-quiet)).Round(time.Millisecond))
		}
		return nil
	})
	if ended := b.Err(); ended != nil {
		err = fmt.Errorf("the connection ended: %w", ended)
	}
	return b.Silence(since), err
}
