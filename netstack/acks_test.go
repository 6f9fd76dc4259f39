package netstack

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
)

// ackWorld is a link's acknowledgements and what leaves of them.
type ackWorld struct {
	t    *testing.T
	acks *acks

	mu   sync.Mutex // guards sent
	sent []uint32
}

// left returns, once, what has left since.
func (w *ackWorld) left() []uint32 {
	synctest.Wait()
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.sent
	w.sent = nil
	return out
}

func newAckWorld(t *testing.T) *ackWorld {
	w := &ackWorld{t: t}
	w.acks = newAcks(func(pkt *stack.PacketBuffer) {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.sent = append(w.sent, header.TCP(pkt.TransportHeader().Slice()).AckNumber())
	})
	return w
}

// offer says whether the packet is held.
func (w *ackWorld) offer(s sample) bool {
	pkt := s.packet()
	defer pkt.DecRef()
	return w.acks.hold(pkt)
}

func (w *ackWorld) want(what string, held bool, s sample) {
	w.t.Helper()
	if got := w.offer(s); got != held {
		w.t.Errorf("%s: held %v", what, got)
	}
}

func ackOf(n uint32) sample {
	return sample{protocol: header.TCPProtocolNumber, ports: [2]uint16{1000, 80}, ack: n, flags: header.TCPFlagAck, options: timestamps}
}

func TestAcksHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newAckWorld(t)
		defer w.acks.close()
		w.want("the first of a connection", false, ackOf(1000))
		w.want("of a few bytes", true, ackOf(1100))
		data := ackOf(1100)
		data.payload = []byte("answer")
		w.want("data", false, data)
		time.Sleep(2 * ackDelay) // simulated
		if left := w.left(); len(left) != 0 {
			t.Fatalf("%v left though data said it", left)
		}

		w.want("alone", true, ackOf(1200))
		time.Sleep(ackDelay - time.Microsecond)
		if len(w.left()) != 0 {
			t.Fatal("too early")
		}
		time.Sleep(2 * time.Microsecond)
		if left := w.left(); len(left) != 1 || left[0] != 1200 {
			t.Fatalf("left: %v", left)
		}

		w.want("the first segment", true, ackOf(1200+1340))
		w.want("the second", false, ackOf(1200+2*1340))
		w.want("what opens the window", false, ackOf(1200+2*1340))
		sack := ackOf(1200 + 2*1340 + 10)
		sack.options = append(timestamps[:12:12], 1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2)
		w.want("with SACK", false, sack)
		fin := ackOf(1200 + 2*1340 + 20)
		fin.flags |= header.TCPFlagFin
		w.want("FIN", false, fin)
		fin.ack += 100
		fin.flags &^= header.TCPFlagFin
		w.want("once more", true, fin)
		update := fin
		update.window = 5000
		w.want("what opens the window while one is held", false, update)
		w.want("the same number again", false, fin)
		udp := sample{protocol: header.UDPProtocolNumber, ports: [2]uint16{1000, 80}, payload: []byte("x")}
		w.want("a datagram", false, udp)

		// An older one never leaves after a newer.
		next := uint32(1200 + 2*1340 + 120)
		w.want("once more", true, ackOf(next+100))
		w.want("newer", true, ackOf(next+200))
		w.acks.flushAll()
		time.Sleep(2 * ackDelay)
		if left := w.left(); len(left) != 1 || left[0] != next+200 {
			t.Errorf("left: %v, want the newest alone", left)
		}
	})
}

// However small the segments are and however soon they follow each other, the
// first of those not acknowledged waits for no longer than ackDelay.
func TestAcksAreNotPutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newAckWorld(t)
		defer w.acks.close()
		w.want("the first of a connection", false, ackOf(1000))
		for i := range uint32(100) {
			w.offer(ackOf(1001 + i))
			time.Sleep(ackDelay / 4)
		}
		time.Sleep(2 * ackDelay)
		if left := w.left(); len(left) < 100/5 || left[len(left)-1] != 1100 {
			t.Errorf("%d acknowledgements for 100 segments: %v", len(left), left)
		}
	})
}

// Each connection has its own; where two share a place neither is lost.
func TestAcksOfManyConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newAckWorld(t)
		defer w.acks.close()
		held := 0
		for round := range uint32(2) {
			for i := range uint16(5 * ackSlots) {
				s := ackOf(1000 + 100*round)
				s.ports[0] = i
				if w.offer(s) {
					held++
				}
			}
		}
		time.Sleep(2 * ackDelay)
		if left := len(w.left()); held == 0 || left != held {
			t.Errorf("%d held, %d left", held, left)
		}
	})
}

func TestAcksClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // what is held is not due meanwhile
		w := newAckWorld(t)
		w.offer(ackOf(1))
		if !w.offer(ackOf(2)) {
			t.Fatal("not held")
		}
		w.acks.close()
		w.acks.close()
		if w.offer(ackOf(3)) || w.acks.holding != 0 || len(w.left()) != 0 {
			t.Error("held after the end")
		}
	})
}

// A request and its answer are two packets, whichever side acknowledges.
func TestAnswersCarryAcknowledgements(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // the acknowledgement is not due meanwhile
		d := newTestDevice(DefaultMTU)
		defer d.Close()
		packets := stack.PacketBufferList{}
		list := []sample{ackOf(10), ackOf(20), ackOf(20)}
		list[0].payload, list[2].payload = []byte("request"), []byte("answer")
		for _, s := range list {
			packets.PushBack(s.packet())
		}
		n, err := d.link.WritePackets(packets)
		if n != len(list) || err != tcpip.Error(nil) {
			t.Fatal(n, err)
		}
		packets.Reset()
		if left := drain(t, d); len(left) != 2 {
			t.Errorf("%d packets", len(left))
		}
	})
}
