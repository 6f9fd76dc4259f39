package relay

import (
	"runtime"
	"testing"
)

// Small frames take more memory than they have bytes. What waits for one client
// is bounded in memory, not in bytes alone.
func TestQueueOfSmallFramesIsBounded(t *testing.T) {
	const limit = 256 << 10
	q := fairQueue{limit: depth{least: limit}}
	from := &session{}
	frame := make([]byte, headerSize+1)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range 40_000 {
		q.push(from, frame)
	}
	runtime.GC()
	runtime.GC() // what is in pools
	runtime.ReadMemStats(&after)
	if got := int64(after.HeapAlloc) - int64(before.HeapAlloc); got > 8*limit {
		t.Errorf("%d KB wait for one client, whose limit is %d", got>>10, limit>>10)
	}
	runtime.KeepAlive(&q)
	for _, n := range []int{headerSize, 255, 256, 1500, MaxFrame} {
		q := fairQueue{limit: depth{least: limit}}
		for range 10 {
			q.push(from, make([]byte, n))
		}
		if got := popAll(&q); len(got) != 10 || q.bytes != 0 {
			t.Errorf("%d frames of %d bytes came, %d bytes are left", len(got), n, q.bytes)
		}
	}
}
