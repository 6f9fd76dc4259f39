package netstack

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

func offer(q *queue, size int, wait bool) verdict {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithData(make([]byte, size))})
	defer pkt.DecRef()
	return q.push(pkt, wait)
}

func takeAll(q *queue, max int) int {
	dst := make([]*stack.PacketBuffer, max)
	n := q.take(dst, 1<<30, sealed)
	for _, pkt := range dst[:n] {
		pkt.DecRef()
	}
	return n
}

func TestQueueKeepsRoomForSmallPackets(t *testing.T) {
	q := newQueue()
	defer q.close()
	for i := range queueBulkPackets {
		if v := offer(q, 100, true); v != queued {
			t.Fatalf("bulk packet %d: %v", i, v)
		}
	}
	waited := make(chan verdict)
	go func() { waited <- offer(q, 100, true) }()
	if v := offer(q, 100, false); v != queued {
		t.Errorf("another packet beside the bulk: %v", v)
	}
	for n := 0; n < queueBulkPackets/2+2; {
		n += takeAll(q, 64)
	}
	if v := <-waited; v != queued {
		t.Errorf("bulk packet that waited: %v", v)
	}
	for q.n < queuePackets {
		offer(q, 1, false)
	}
	if v := offer(q, 1, false); v != droppedFull {
		t.Errorf("a packet above all limits: %v", v)
	}
}

func TestQueueBoundsBytes(t *testing.T) {
	q := newQueue()
	defer q.close()
	n := 0
	for offer(q, 60_000, false) == queued {
		n++
	}
	if n != queueBytes/60_000 {
		t.Errorf("%d packets of 60000 bytes", n)
	}
}

func TestQueueGivesUpOnceWithoutReader(t *testing.T) {
	q := newQueue()
	defer q.close()
	for offer(q, 1000, false) == queued {
	}
	start := time.Now()
	for range 100 {
		if v := offer(q, 1000, true); v != droppedFull {
			t.Fatalf("%v", v)
		}
	}
	if waited := time.Since(start); waited < queueWait || waited > 20*queueWait {
		t.Errorf("100 packets waited %v", waited)
	}
	takeAll(q, 1)
	if q.stalled {
		t.Error("a read does not end the stall")
	}
}

func TestQueueCloseWakesWriters(t *testing.T) {
	q := newQueue()
	for offer(q, 1000, false) == queued {
	}
	waited := make(chan verdict)
	go func() { waited <- offer(q, 1000, true) }()
	if n := q.close(); n == 0 {
		t.Error("close counted nothing")
	}
	if v := <-waited; v != droppedClosed {
		t.Errorf("%v", v)
	}
	if n := takeAll(q, 1); n != 0 || q.close() != 0 {
		t.Error("a closed queue holds packets")
	}
}

func TestInbox(t *testing.T) {
	b := newInbox(3, 100)
	item := func(size int) datagram {
		return datagram{from: netip.MustParseAddrPort("100.64.0.2:1"), data: buffer.NewViewWithData(make([]byte, size))}
	}
	for i, test := range []struct {
		size int
		kept bool
	}{{60, true}, {50, false}, {40, true}, {0, true}, {0, false}} {
		if got := b.put(item(test.size)); got != test.kept {
			t.Errorf("datagram %d: kept %v", i, got)
		}
	}
	for _, size := range []int{60, 40, 0} {
		d, ok, err := b.get()
		if !ok || err != nil || d.data.Size() != size {
			t.Fatalf("%v, %v, %v", d, ok, err)
		}
		d.data.Release()
		if !b.put(datagram{}) || len(b.list) > 6 {
			t.Error("no room after a read, or the list grows")
		}
	}
	b.close(net.ErrClosed)
	if _, _, err := b.get(); err != net.ErrClosed || b.put(datagram{}) {
		t.Errorf("closed: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 0, 59, 1}, make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, packet []byte) {
		protocol, to, ok := parse(packet)
		if ok != (protocol != 0) || ok != to.IsValid() || ok && len(packet) < 20 {
			t.Errorf("%x: %v, %v, %v", packet, protocol, to, ok)
		}
	})
}
