package discovery

// window refuses what was seen before: a peer counts its messages within an
// epoch, and takes a higher epoch at each start. The last 64 numbers may come in
// any order (as in RFC 4303 section 3.4.3).
type window struct {
	epoch uint64
	top   uint64
	seen  uint64 // bit i: top-i was seen
}

// verdict of a window.
type verdict uint8

const (
	_        verdict = iota
	fresh            // never seen
	replayed         // seen, or too old to tell
	stale            // of an epoch before the current one
)

// admit must be called only with numbers that were authenticated.
func (w *window) admit(epoch, seq uint64) verdict {
	switch {
	case epoch < w.epoch:
		return stale
	case epoch > w.epoch:
		*w = window{epoch: epoch, top: seq, seen: 1}
		return fresh
	case seq > w.top:
		shift := seq - w.top
		if w.seen <<= min(shift, 63); shift > 63 {
			w.seen = 0
		}
		w.seen |= 1
		w.top = seq
		return fresh
	case w.top-seq > 63 || w.seen&(1<<(w.top-seq)) != 0:
		return replayed
	}
	w.seen |= 1 << (w.top - seq)
	return fresh
}
