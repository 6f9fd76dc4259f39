package netstack

import (
	"testing"
	"testing/synctest"
	"time"
)

// A writer of TCP data who waits for the whole queue goes on as soon as nothing
// of its flow is in it, though others keep the queue full.
func TestQueueLetsInWhoHasNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		defer q.close()
		list := ports(q, 2)
		noisy, quiet := list[0], list[1]
		for q.flows.n < queueBulkPackets {
			offerTo(q, noisy, 100, false)
		}
		if v := offerTo(q, quiet, 100, true); v != queued {
			t.Fatalf("the first packet: %v", v)
		}
		began, second := time.Now(), make(chan verdict, 1)
		go func() { second <- offerTo(q, quiet, 100, true) }()
		synctest.Wait()
		for read := noisy; read != quiet; offerTo(q, noisy, 100, false) {
			read = takeSome(q, 1)[0]
		}
		if v := <-second; v != queued {
			t.Errorf("the second packet: %v", v)
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("it waited %v after its turn", waited)
		}
	})
}

// Datagrams that fill the queue to its last place do not keep TCP out of it.
func TestQueueFullOfDatagramsTakesData(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		defer q.close()
		list := ports(q, 2)
		for offerTo(q, list[0], 100, false) == queued {
		}
		began := time.Now()
		if v := offerTo(q, list[1], 100, true); v != queuedInstead {
			t.Errorf("data of another flow: %v", v)
		}
		if waited := time.Since(began); waited > 0 {
			t.Errorf("it waited %v", waited)
		}
	})
}
