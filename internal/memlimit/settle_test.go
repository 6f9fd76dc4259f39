package memlimit

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func released() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapReleased
}

// peak uses and drops memory.
func peak() {
	var all [][]byte
	for range 64 {
		b := make([]byte, mib)
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
		all = append(all, b)
	}
	runtime.KeepAlive(all)
}

// whileRunning calls f on a simulated clock while Run runs.
func whileRunning(t *testing.T, f func(t *testing.T)) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() { ended <- Run(ctx) }()
		f(t)
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}

func TestAPeakIsGivenBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // only Run collects
	whileRunning(t, func(t *testing.T) {
		time.Sleep(starting)
		synctest.Wait()
		peak()
		before := released()
		time.Sleep(settleEvery + time.Second)
		if got := look().idle(); got < 64*mib {
			t.Errorf("%d bytes idle: the process was not quiet yet", got)
		}
		time.Sleep(settleEvery)
		synctest.Wait()
		if got := int64(released() - before); got < 32*mib {
			t.Errorf("%d bytes given back", got)
		}
	})
}

// What was still in use when the collector last looked is given back as well.
func TestWhatWasInUseIsGivenBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	whileRunning(t, func(t *testing.T) {
		time.Sleep(starting + settleEvery)
		synctest.Wait()
		held := make([]byte, 64*mib)
		for i := 0; i < len(held); i += 4096 {
			held[i] = 1
		}
		runtime.GC()
		if now := look(); now.idle() > 32*mib {
			t.Fatalf("%d bytes idle", now.idle())
		}
		runtime.KeepAlive(held)
		before := released()
		time.Sleep(2*settleEvery + time.Second)
		synctest.Wait()
		if got := int64(released() - before); got < 32*mib {
			t.Errorf("%d bytes given back", got)
		}
	})
}

// What the start has left behind goes sooner.
func TestTheStartsGarbageIsGivenBack(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	whileRunning(t, func(t *testing.T) {
		synctest.Wait()
		peak()
		before := released()
		time.Sleep(2*startEvery + startEvery/2)
		synctest.Wait()
		if got := int64(released() - before); got < 32*mib {
			t.Errorf("%d bytes given back", got)
		}
	})
}

// While it starts a process has little garbage, unless it is told to have less.
func TestTheCollectorIsKeenAtTheStart(t *testing.T) {
	percent := func() uint64 {
		samples := []metrics.Sample{{Name: "/gc/gogc:percent"}}
		metrics.Read(samples)
		return samples[0].Value.Uint64()
	}
	for _, usual := range []int{100, startPercent - 5} {
		before := debug.SetGCPercent(usual)
		whileRunning(t, func(t *testing.T) {
			synctest.Wait()
			if got := percent(); got != uint64(min(usual, startPercent)) {
				t.Errorf("%d %% at the start, usually %d", got, usual)
			}
			time.Sleep(starting + startEvery)
			synctest.Wait()
			if got := percent(); got != uint64(usual) {
				t.Errorf("%d %% after it, usually %d", got, usual)
			}
		})
		debug.SetGCPercent(before)
	}
}

func TestQuietAndIdle(t *testing.T) {
	now := use{allocated: 100 * mib, objects: 20 * mib, live: 18 * mib, free: mib}
	if got := now.idle(); got != 3*mib {
		t.Errorf("idle %d", got)
	}
	if (use{objects: 1, live: 5}).idle() != 0 {
		t.Error("more is live than there is")
	}
	if !now.quietSince(use{allocated: 100*mib - 1000}, time.Second) || now.quietSince(use{allocated: 90 * mib}, settleEvery) {
		t.Error("quiet")
	}
	if got := look(); got.allocated == 0 || got.objects == 0 {
		t.Errorf("this runtime does not say: %+v", got)
	}
}
