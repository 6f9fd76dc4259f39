package control

import (
	"context"
	"encoding/json"
	"math"
	"time"

	"nexd/control/store"
)

// Revisions count the changes of one history. A database that is put back from
// a backup begins another one, which must not give the same numbers to other
// changes: a device that knows the first ones would take what follows them for
// its own. So each start goes on from a number that comes from the clock, above
// all that were ever given, and the database has the spans in between: a
// revision outside of them is of a history that was lost.

const (
	// revisionsAMilli is how many changes in a millisecond a service may make, from
	// its start to its end, without reaching the numbers of the next start. All
	// of them fit into 53 bits, for readers of JSON that have no more.
	revisionsAMilli = 1 << 10
	// keptSpans is how many starts a map may be old and still be resumed from.
	keptSpans = 64
)

// span is the revisions that one run of the service gave.
type span struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"` // of the one that goes on it does not count
}

// history is the spans of the database, the one that goes on last.
type history []span

// continueHistory begins a span for a start now, and returns the network as it
// is then. A new network begins at 0.
func continueHistory(ctx context.Context, st store.Store, n store.Network, now time.Time) (history, store.Network, error) {
	text, err := st.Setting(ctx, settingHistory, func() (string, error) { return "[]", nil })
	if err != nil {
		return nil, n, err
	}
	var h history
	if json.Unmarshal([]byte(text), &h) != nil {
		h = history{{First: n.Revision + 1}} // no map can be resumed from, which costs a snapshot each
	}
	if len(h) == 0 {
		h = history{{}}
	}
	last := &h[len(h)-1].Last
	if n.Revision > 0 {
		*last = n.Revision
		h = append(h[max(len(h)-keptSpans, 0):], span{First: max(n.Revision+1, uint64(max(now.UnixMilli(), 0))*revisionsAMilli)})
		last = &h[len(h)-1].Last
		b, err := json.Marshal(h)
		if err != nil {
			return nil, n, err
		}
		// First the span, then its numbers: what was not noted is never given.
		if err := st.PutSetting(ctx, settingHistory, string(b)); err != nil {
			return nil, n, err
		}
		n.Revision = h[len(h)-1].First
		if err := st.SkipRevisions(ctx, n.ID, n.Revision); err != nil {
			return nil, n, err
		}
	}
	*last = math.MaxUint64
	return h, n, nil
}

// has reports whether a revision is one of this history.
func (h history) has(revision uint64) bool {
	for _, s := range h {
		if s.First <= revision && revision <= s.Last {
			return true
		}
	}
	return false
}
