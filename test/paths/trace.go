//go:build linux

package paths

import (
	"fmt"
	"strings"
	"sync"
	"time"

	"nexd/localapi"
)

// ownTime is how long a WireGuard session lives at least before it renews
// itself (REJECT_AFTER_TIME apart, REKEY_AFTER_TIME is 120 s): a handshake
// sooner than this after the last one was caused by something.
const ownTime = 115 * time.Second

// Trace follows how members reach each other.
type Trace struct {
	begun time.Time
	stop  chan struct{}
	wg    sync.WaitGroup

	mu      sync.Mutex
	changes []Change // mu guards it and the fields below
	caused  int
}

// Change is a new path, or a handshake that was caused.
type Change struct {
	At   time.Time
	From string // the member
	Path localapi.PathStatus
	// Handshake: not the path changed, but a handshake took place too early.
	Handshake bool
}

// NewTrace begins to follow a pair in both directions, until Close.
func NewTrace(a, b *Member) *Trace {
	t := &Trace{begun: time.Now(), stop: make(chan struct{})}
	t.wg.Go(func() { t.follow(a, b.Name) })
	t.wg.Go(func() { t.follow(b, a.Name) })
	return t
}

// Close ends it.
func (t *Trace) Close() {
	close(t.stop)
	t.wg.Wait()
}

func (t *Trace) follow(m *Member, peer string) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last localapi.PeerStatus
	for {
		if now, err := m.Peer(peer); err == nil {
			t.note(m.Name, last, now)
			last = now
		}
		select {
		case <-t.stop:
			return
		case <-tick.C:
		}
	}
}

// note keeps what differs between two looks.
func (t *Trace) note(from string, last, now localapi.PeerStatus) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if Show(last.Path) != Show(now.Path) {
		t.changes = append(t.changes, Change{At: time.Now(), From: from, Path: now.Path})
	}
	before, after := last.LastHandshake, now.LastHandshake
	if !before.IsZero() && after.After(before) && after.Sub(before) < ownTime {
		t.caused++
		t.changes = append(t.changes, Change{At: time.Now(), From: from, Path: now.Path, Handshake: true})
	}
}

// Caused is how many handshakes took place too early, as each side counts them.
func (t *Trace) Caused() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.caused
}

// Fell is how often one side went from a direct path to another kind.
func (t *Trace) Fell() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	fell, last := 0, map[string]string{}
	for _, c := range t.changes {
		if last[c.From] == localapi.PathDirect && c.Path.Kind != localapi.PathDirect {
			fell++
		}
		last[c.From] = c.Path.Kind
	}
	return fell
}

// String is the story, a line for each change.
func (t *Trace) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var b strings.Builder
	for _, c := range t.changes {
		what := Show(c.Path)
		if c.Handshake {
			what = "a handshake too early, over " + what
		}
		fmt.Fprintf(&b, "%8.3f s  %-6s %s\n", c.At.Sub(t.begun).Seconds(), c.From, what)
	}
	return b.String()
}
