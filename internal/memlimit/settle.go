package memlimit

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// How often the process is looked at, and what is worth a collection: at the
// start, most of what was needed to get there is garbage, and no more follows.
const (
	starting   = 15 * time.Second
	startEvery = time.Second
	startWorth = 1 << 20
	// startPercent is how much garbage there may be meanwhile, of what is live, before
	// Go's collector runs: what is made to stay then lies closer together.
	startPercent = 25

	settleEvery = 5 * time.Second
	settleWorth = 4 << 20

	quietBytes = 100 << 10 // allocated in a second by a process that does little
)

// Run gives memory that is not used any more back to the system whenever the
// process has become quiet, until ctx is cancelled; then it returns nil. A
// quiet process is not disturbed again before there is something new to give.
// How much there is to give shows only in a collection: what was in use in the
// last one, as WireGuard's buffers in their pools, may be garbage since.
func Run(ctx context.Context) error {
	begun := time.Now()
	usual := debug.SetGCPercent(startPercent)
	if usual < startPercent { // also when it is off
		debug.SetGCPercent(usual)
	}
	defer debug.SetGCPercent(usual)
	every, worth := startEvery, uint64(startWorth)
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	before := look()
	busy := true // since memory was last given back
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		now := look()
		switch {
		case !now.quietSince(before, every):
			busy = true
		case busy || now.idle() >= worth:
			runtime.GC() // what pools hold goes with the second one
			debug.FreeOSMemory()
			now, busy = look(), false
		}
		before = now
		if every != settleEvery && time.Since(begun) >= starting {
			debug.SetGCPercent(usual)
			every, worth = settleEvery, settleWorth
			ticker.Reset(every)
		}
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

func (u use) quietSince(before use, ago time.Duration) bool {
	return u.allocated-before.allocated < quietBytes*uint64(ago/time.Second)
}

// idle is what could be given back: what is free, and what has been allocated
// since the last collection, most of which is garbage by now.
func (u use) idle() uint64 { return u.free + u.objects - min(u.objects, u.live) }
