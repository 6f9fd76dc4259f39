package bind

import (
	"bytes"
	"slices"
	"sync"
	"time"
)

// What is kept of the packets that went to a peer since it was last heard: those
// a dead path swallowed are sent once more over the next one. Otherwise TCP
// inside would first wait for its own timer, which has been doubling all the
// while. The peer drops copies of what it has (its replay window, RFC 6479).
const (
	recallAfter   = 100 * time.Millisecond // of silence packets are kept
	recallFor     = 3 * time.Second        // and no longer: they are stale by then
	recallPackets = 24
	recallBatch   = 4 // larger batches are bulk: there is more where they came from
	recallSize    = 2048

	// A peer that is heard again after such a silence, while its paths are in
	// doubt or were not long ago, gets what it may have missed, too.
	backAfter = 300 * time.Millisecond
	unsureFor = 10 * time.Second
)

// recall holds copies; its zero value is empty. While a peer answers it holds
// next to nothing.
type recall struct {
	mu   sync.Mutex // guards the fields below
	kept []recalled // oldest first

	stale *time.Timer // drops what is kept recallFor after the last of it; nil: never needed yet
	fresh time.Time   // until when that must not be
}

type recalled struct {
	at  int64 // nanoseconds after Bind.epoch
	pkt []byte
}

// keep copies packets that are being sent, or find no path, while the peer is
// silent. The oldest gives way.
func (r *recall) keep(bufs [][]byte, now, heard int64) {
	if now-heard < int64(recallAfter) || len(bufs) > recallBatch {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune(now, heard)
	for _, b := range bufs {
		if len(b) > recallSize {
			continue
		}
		if len(r.kept) == recallPackets {
			r.kept = slices.Delete(r.kept, 0, 1)
		}
		r.kept = append(r.kept, recalled{now, bytes.Clone(b)})
	}
	if len(r.kept) == 0 {
		return
	}
	r.fresh = time.Now().Add(recallFor)
	if r.stale == nil {
		r.stale = time.AfterFunc(recallFor, r.drop)
	} else {
		r.stale.Reset(recallFor)
	}
}

// drop gives the memory back: what is kept is stale.
func (r *recall) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !time.Now().Before(r.fresh) { // else there is more since the timer went off
		r.kept = nil
	}
}

// since returns what is not stale and was sent after the peer was last heard,
// in order. It stays kept: the next way may be dead as well.
func (r *recall) since(now, heard int64) [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.prune(now, heard)
	var out [][]byte
	for _, x := range r.kept {
		out = append(out, x.pkt)
	}
	return out
}

// prune forgets what is stale and what the peer may be supposed to have. mu is held.
func (r *recall) prune(now, heard int64) {
	r.kept = slices.DeleteFunc(r.kept, func(x recalled) bool { return x.at <= heard || now-x.at > int64(recallFor) })
}
