package netstack

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// ports returns ports whose flows do not meet in the queue; 1 is the first.
func ports(q *queue, n int) (list []uint16) {
	taken := map[int]bool{}
	for port := uint16(1); len(list) < n; port++ {
		pkt := packetOf(port, header.UDPMinimumSize)
		if flow := q.flowOf(pkt); !taken[flow] {
			taken[flow] = true
			list = append(list, port)
		}
		pkt.DecRef()
	}
	return list
}

func packetOf(port uint16, size int) *stack.PacketBuffer {
	pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{
		ReserveHeaderBytes: header.UDPMinimumSize,
		Payload:            buffer.MakeWithData(make([]byte, size-header.UDPMinimumSize)),
	})
	pkt.TransportProtocolNumber = header.UDPProtocolNumber
	header.UDP(pkt.TransportHeader().Push(header.UDPMinimumSize)).Encode(&header.UDPFields{SrcPort: port, DstPort: port})
	return pkt
}

func offerTo(q *queue, port uint16, size int, wait bool) verdict {
	pkt := packetOf(port, size)
	defer pkt.DecRef()
	return q.push(pkt, wait)
}

func offer(q *queue, size int, wait bool) verdict { return offerTo(q, 1, size, wait) }

// takeSome reads up to max packets and returns their ports.
func takeSome(q *queue, max int) []uint16 {
	dst := make([]part, max)
	n := q.take(dst, max, 1<<30, &mtus{own: MaxMTU})
	ports := make([]uint16, 0, n)
	for _, p := range dst[:n] {
		ports = append(ports, header.UDP(p.pkt.TransportHeader().Slice()).SourcePort())
		p.pkt.DecRef()
	}
	return ports
}

func takeAll(q *queue, max int) int { return len(takeSome(q, max)) }

func TestQueueKeepsRoomForSmallPackets(t *testing.T) { synctest.Test(t, keepsRoomForSmallPackets) }

func keepsRoomForSmallPackets(t *testing.T) {
	q := newQueue()
	defer q.close()
	for i := range flowBulkPackets {
		if v := offer(q, 100, true); v != queued {
			t.Fatalf("bulk packet %d: %v", i, v)
		}
	}
	waited := make(chan verdict)
	go func() { waited <- offer(q, 100, true) }()
	synctest.Wait() // it waits, and no time passes
	if v := offer(q, 100, false); v != queued {
		t.Errorf("another packet beside the bulk: %v", v)
	}
	for n := 0; n < flowBulkPackets/2+2; {
		n += takeAll(q, 64)
	}
	if v := <-waited; v != queued {
		t.Errorf("bulk packet that waited: %v", v)
	}
	// Bulk of many flows leaves room too.
	for _, port := range ports(q, 12)[1:] {
		for range min(100, queueBulkPackets-q.flows.n) {
			if v := offerTo(q, port, 100, true); v != queued {
				t.Fatalf("bulk packet of flow %d: %v", port, v)
			}
		}
	}
	for q.flows.n < queuePackets {
		if v := offer(q, 8, false); v != queued {
			t.Fatalf("a packet beside the bulk: %v", v)
		}
	}
	if v := offer(q, 8, false); v != droppedFull {
		t.Errorf("a packet above all limits: %v", v)
	}
}

// Who fills the queue pays for it: a packet of another flow takes the place of
// one of the largest flow.
func TestQueueDropsOfTheLargest(t *testing.T) {
	q := newQueue()
	defer q.close()
	for offer(q, 100, false) == queued {
	}
	if v := offerTo(q, ports(q, 2)[1], 100, false); v != queuedInstead {
		t.Errorf("a packet of another flow: %v", v)
	}
	if v := offer(q, 100, false); v != droppedFull {
		t.Errorf("a packet of the flow that fills the queue: %v", v)
	}
	if q.flows.n != queuePackets {
		t.Errorf("%d packets", q.flows.n)
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

// A flow that begins is ahead of those that wait, and those take turns.
func TestQueueIsFair(t *testing.T) {
	q := newQueue()
	defer q.close()
	p := ports(q, 4)
	for _, port := range p[:3] {
		for range 2 {
			offerTo(q, port, 60_000, true)
		}
	}
	got := takeSome(q, 1)
	offerTo(q, p[3], 100, false)
	for q.flows.n > 0 {
		got = append(got, takeSome(q, 1)...)
	}
	if want := []uint16{p[0], p[3], p[1], p[2], p[0], p[1], p[2]}; !slices.Equal(got, want) {
		t.Errorf("flows in the order %v, want %v", got, want)
	}
}

// However often a small flow empties and begins again, a large one goes on.
func TestQueueStarvesNobody(t *testing.T) {
	q := newQueue()
	defer q.close()
	p := ports(q, 3)
	offerTo(q, p[0], 60_000, true)
	for i := range 100 {
		offerTo(q, p[1], 100, false)
		offerTo(q, p[2], 100, false)
		if slices.Contains(takeSome(q, 2), p[0]) {
			if i > 3 {
				t.Errorf("served after %d rounds", i)
			}
			return
		}
	}
	t.Error("never served")
}

func TestQueueGivesUpOnceWithoutReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
		if waited := time.Since(start); waited != queueWait { // simulated
			t.Errorf("100 packets waited %v", waited)
		}
		takeAll(q, 1)
		if q.stalled {
			t.Error("a read does not end the stall")
		}
	})
}

// A writer that finds no room again and again because others were sooner waits
// on as long as there are reads.
func TestQueueWaitsWhileThereAreReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newQueue()
		defer q.close()
		for offer(q, 1000, true) == queued && q.flows.n < flowBulkPackets {
		}
		got := make(chan verdict, 1)
		go func() { got <- offer(q, 1000, true) }()
		synctest.Wait()
		for range 3 {
			time.Sleep(queueWait - time.Millisecond)
			q.mu.Lock() // so that the writer finds it full again
			parts := make([]part, flowBulkPackets/2)
			n := q.moveLocked(parts, len(parts), 1<<30, &mtus{own: MaxMTU})
			for _, p := range parts[:n] {
				q.flows.push(q.flowOf(p.pkt), p.pkt, p.pkt.Size(), true)
				p.pkt.DecRef()
			}
			q.mu.Unlock()
			synctest.Wait()
			time.Sleep(time.Millisecond)
			synctest.Wait()
			select {
			case v := <-got:
				t.Fatalf("%v though it is read", v)
			default:
			}
		}
		takeAll(q, flowBulkPackets)
		if v := <-got; v != queued {
			t.Errorf("%v", v)
		}
	})
}

func TestQueueCloseWakesWriters(t *testing.T) { synctest.Test(t, closeWakesWriters) }

func closeWakesWriters(t *testing.T) {
	q := newQueue()
	for offer(q, 1000, false) == queued {
	}
	waited := make(chan verdict)
	go func() { waited <- offer(q, 1000, true) }()
	synctest.Wait() // it waits
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
		var d [1]datagram
		if n, err := b.get(d[:]); n != 1 || err != nil || d[0].data.Size() != size {
			t.Fatalf("%v, %v, %v", d, n, err)
		}
		d[0].data.Release()
		if !b.put(datagram{}) || len(b.list) > 6 {
			t.Error("no room after a read, or the list grows")
		}
	}
	var rest [8]datagram
	if n, err := b.get(rest[:]); n != 3 || err != nil || !b.empty() {
		t.Errorf("%d of 3 at a time, %v", n, err)
	}
	b.close(net.ErrClosed)
	if _, err := b.get(rest[:]); err != net.ErrClosed || b.put(datagram{}) {
		t.Errorf("closed: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte{0x45, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(append([]byte{0x60, 0, 0, 0, 0, 0, 59, 1}, make([]byte, 32)...))
	f.Fuzz(func(t *testing.T, packet []byte) {
		protocol, to, length, ok := parse(packet)
		if ok != (protocol != 0) || ok != to.IsValid() || ok && (length < 20 || length > len(packet)) {
			t.Errorf("%x: %v, %v, %v", packet, protocol, to, ok)
		}
	})
}
