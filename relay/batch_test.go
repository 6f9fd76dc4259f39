package relay

import (
	"encoding/binary"
	"sync"
	"sync/atomic"
	"testing"

	"nexd/key"
)

// batches notes what a client delivers.
type batches struct {
	mu      sync.Mutex
	next    map[key.Public]uint32
	most    int
	trouble string
}

func (b *batches) deliver(peer key.Public, packets [][]byte) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.most = max(b.most, len(packets))
	for _, p := range packets {
		n := binary.BigEndian.Uint32(p)
		if n != b.next[peer] || len(p) != 40+int(n)%1400 || p[len(p)-1] != byte(n) {
			b.trouble = "a packet is not the next one, or not as it was sent"
		}
		b.next[peer] = n + 1
	}
}

func (b *batches) of(peer key.Public) uint32 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.next[peer]
}

// Batches of two senders pass by TLS and by UDP in order and whole, and come
// as batches.
func TestBatchesStayBatches(t *testing.T) {
	r := newRelay(t)
	b := &batches{next: map[key.Public]uint32{}}
	to := r.node("net", onlyTLS, func(_ *testNode, c *ClientConfig) { c.Deliver = b.deliver }).connected(TLS)
	from := []*testNode{r.node("net", onlyTLS).connected(TLS), r.node("net", onlyUDP).connected(UDP)}
	const size, rounds = 30, 40
	for round := range rounds {
		for _, n := range from {
			var packets [][]byte
			for i := range size {
				number := uint32(round*size + i)
				p := make([]byte, 40+int(number)%1400)
				binary.BigEndian.PutUint32(p, number)
				p[len(p)-1] = byte(number)
				packets = append(packets, p)
			}
			if got := n.Send(to.public(), packets); got != size {
				t.Fatalf("%d of %d sent", got, size)
			}
		}
		for _, n := range from { // not more on their way than queues hold
			waitFor(t, "a batch", func() bool { return b.of(n.public()) == uint32((round+1)*size) })
		}
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.trouble != "" || b.most < 2 {
		t.Errorf("%s; at most %d together", b.trouble, b.most)
	}
}

// A batch passes a client, the relay and another client without an allocation
// for a packet.
func TestBatchesByTLSAllocateLittle(t *testing.T) {
	r := newRelay(t)
	var came atomic.Int64
	count := func(_ *testNode, c *ClientConfig) {
		c.Deliver = func(_ key.Public, packets [][]byte) { came.Add(int64(len(packets))) }
	}
	a, b := r.node("net", onlyTLS).connected(TLS), r.node("net", onlyTLS, count).connected(TLS)
	var packets [][]byte
	for range 44 {
		packets = append(packets, make([]byte, 1400))
	}
	got := testing.AllocsPerRun(200, func() {
		before := came.Load()
		a.Send(b.public(), packets)
		waitFor(t, "the batch", func() bool { return came.Load() == before+int64(len(packets)) })
	})
	// Of the whole process, the relay and the other client as well.
	if got >= float64(len(packets)) && !raceEnabled {
		t.Errorf("%v allocations for %d packets", got, len(packets))
	}
}
