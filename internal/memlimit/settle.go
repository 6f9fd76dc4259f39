package memlimit

import (
	"context"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	settleEvery = 5 * time.Second
	quietBytes  = 1 << 19 // allocated in that time by a process that does little: 100 KB a second
	worthBytes  = 4 << 20 // less is not worth a collection
)

// Run gives memory that is not used any more back to the system whenever the
// process has become quiet, until ctx is cancelled; then it returns nil. A
// quiet process is not disturbed again before there is something new to give.
func Run(ctx context.Context) error {
	ticker := time.NewTicker(settleEvery)
	defer ticker.Stop()
	before := look()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := look()
		if now.quietSince(before) && now.idle() >= worthBytes {
			debug.FreeOSMemory()
			now = look()
		}
		before = now
	}
}

// use is the heap's state in bytes.
type use struct {
	allocated uint64 // ever
	objects   uint64 // live, and garbage not yet found
	live      uint64 // by the last collection
	free      uint64 // in no use, and not given back
}

func look() use {
	samples := [...]metrics.Sample{
		{Name: "/gc/heap/allocs:bytes"},
		{Name: "/memory/classes/heap/objects:bytes"},
		{Name: "/gc/heap/live:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(samples[:])
	var v [len(samples)]uint64
	for i, s := range samples {
		if s.Value.Kind() == metrics.KindUint64 {
			v[i] = s.Value.Uint64()
		}
	}
	return use{v[0], v[1], v[2], v[3]}
}

func (u use) quietSince(before use) bool { return u.allocated-before.allocated < quietBytes }

// idle is what could be given back: what is free, and what has been allocated
// since the last collection, most of which is garbage by now.
func (u use) idle() uint64 { return u.free + u.objects - min(u.objects, u.live) }
